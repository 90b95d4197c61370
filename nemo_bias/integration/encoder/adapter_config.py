"""The config node of the adapter in a NeMo model: what `train_asr_adapter.py` gets, and what a `.nemo` file keeps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from nemo_bias.adapter.config import AdapterTrainingConfig, ContextualAdapterConfig
from nemo_bias.options import option

ADAPTER_TARGET = "nemo_bias.BiasingAdapter"
SPREAD_LAYERS = 5  # encoder layers that make the query, if the config names none: evenly over the upper two thirds


@dataclass
class RecogniserConfig:
    """The recogniser that an adapter belongs to."""

    width: int = option(0, "width of the encoder layers")
    output_width: int = option(0, "width of the encoder's output")
    encoder_layers: int = option(0, "how many layers it has")
    vocabulary_size: int = option(0, "how many tokens it has, without the blank")
    vocabulary: str = option("", "fingerprint of the tokens")


@dataclass
class BiasingAdapterConfig:
    """A biasing adapter. `recogniser` is filled in by `model.add_adapter`, from the model."""

    _target_: str = ADAPTER_TARGET
    enabled: bool = option(True, "whether it is used")
    contextual: ContextualAdapterConfig = option(ContextualAdapterConfig, "sizes of the contextual adapter")
    training: AdapterTrainingConfig = option(AdapterTrainingConfig, "how it is trained; of no effect afterwards")
    recogniser: RecogniserConfig = option(RecogniserConfig, "the recogniser that it was made for")


def recogniser_of(model: Any) -> RecogniserConfig:
    """Describes the recogniser of a NeMo CTC or hybrid model."""
    tokens = tokens_of(model)
    encoder = model.encoder
    return RecogniserConfig(
        width=int(encoder.d_model),
        output_width=int(encoder._feat_out),
        encoder_layers=len(encoder.layers),
        vocabulary_size=len(tokens),
        vocabulary=hashlib.sha256("\n".join(tokens).encode()).hexdigest()[:16],
    )


def tokens_of(model: Any) -> list[str]:
    """The tokens of a NeMo CTC or hybrid model in the order of their ids, without the blank."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is not None:
        return [str(token) for token in tokenizer.ids_to_tokens(list(range(tokenizer.vocab_size)))]
    return [str(label) for label in ctc_head(model).vocabulary]


def ctc_head(model: Any) -> Any:
    """NeMo's CTC decoder, which makes log-probs [B, T, V] of the output [B, D, T] of the encoder."""
    return getattr(model, "ctc_decoder", model.decoder)


def tapped_layers(config: ContextualAdapterConfig, encoder_layers: int) -> list[int]:
    """The encoder layers that make the query, counted from 1.

    Raises:
        ValueError: the config names a layer that the encoder does not have.
    """
    if not config.layers:
        lowest = max(1.0, encoder_layers / 3)
        steps = SPREAD_LAYERS - 1
        return sorted({round(lowest + (encoder_layers - lowest) * k / steps) for k in range(SPREAD_LAYERS)})
    for layer in config.layers:
        if not 1 <= layer <= encoder_layers:
            raise ValueError(f"contextual.layers: there is no layer {layer}; the encoder has {encoder_layers}, from 1")
    return sorted(set(config.layers))
