"""The config node of the adapter in a NeMo model: what `train_asr_adapter.py` gets, and what a `.nemo` file keeps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Optional

from nemo_bias.adapter.config import AdapterTrainingConfig, ContextualAdapterConfig, PhoneHeadConfig
from nemo_bias.options import option, typed_config

ADAPTER_TARGET = "nemo_bias.BiasingAdapter"
SPREAD_LAYERS = 5  # encoder layers that make the query, if the config names none: evenly over the upper two thirds
PHONE_DEPTH = 2 / 3  # of the encoder, where the phone head listens, if the config names no layer


@dataclass
class RecogniserConfig:
    """The recogniser that an adapter belongs to."""

    width: int = option(0, "width of the encoder layers")
    output_width: int = option(0, "width of the encoder's output")
    encoder_layers: int = option(0, "how many layers it has")
    vocabulary_size: int = option(0, "how many tokens it has, without the blank")
    vocabulary: str = option("", "fingerprint of the tokens")


# OmegaConf reads the annotations, and knows Optional[X] better than X | None.
@dataclass
class BiasingAdapterConfig:
    """A biasing adapter with one or both of its parts. `model.add_adapter` fills in `recogniser`, from the model."""

    _target_: str = ADAPTER_TARGET
    enabled: bool = option(True, "whether it is used")
    contextual: Optional[ContextualAdapterConfig] = option(  # noqa: UP045
        ContextualAdapterConfig, "sizes of the contextual adapter; null: none"
    )
    phones: Optional[PhoneHeadConfig] = option(None, "sizes of the phone head; null: none")  # noqa: UP045
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
    return getattr(model, "ctc_decoder", None) or model.decoder


def ctc_decoding(model: Any) -> Any:
    """NeMo's CTC decoding object, which makes text of log-probs.

    Raises:
        TypeError: the model has none.
    """
    decoding = getattr(model, "ctc_decoding", None) or getattr(model, "decoding", None)
    if not type(decoding).__name__.startswith("CTC"):
        raise TypeError(f"{type(model).__name__} has no CTC decoder; nemo_bias needs a CTC or hybrid model")
    return decoding


def adapter_config(node: Any) -> BiasingAdapterConfig:
    """Reads the config node of an adapter; all of its options are optional.

    Raises:
        ValueError: an option is unknown or wrong, or the adapter has no part.
    """
    config = typed_config(BiasingAdapterConfig, node, "adapter")
    if config.contextual is None and config.phones is None:
        raise ValueError("adapter.contextual and adapter.phones are null; an adapter needs one of them")
    unknown = set(config.training.parts) - {"contextual", "phones"}
    if unknown or not config.training.parts:
        raise ValueError(f"adapter.training.parts is {config.training.parts}; name contextual, phones or both")
    return config


def query_layers(config: ContextualAdapterConfig, encoder_layers: int) -> list[int]:
    """The encoder layers that make the query of the contextual adapter, counted from 1.

    Raises:
        ValueError: the config names a layer that the encoder does not have.
    """
    if not config.layers:
        lowest = max(1.0, encoder_layers / 3)
        steps = SPREAD_LAYERS - 1
        return sorted({round(lowest + (encoder_layers - lowest) * k / steps) for k in range(SPREAD_LAYERS)})
    for layer in config.layers:
        _check_layer("contextual.layers", layer, encoder_layers)
    return sorted(set(config.layers))


def phone_layer(config: PhoneHeadConfig, encoder_layers: int) -> int:
    """The encoder layer that the phone head listens to, counted from 1.

    Raises:
        ValueError: the config names a layer that the encoder does not have.
    """
    layer = config.layer or max(1, round(PHONE_DEPTH * encoder_layers))
    _check_layer("phones.layer", layer, encoder_layers)
    return layer


def _check_layer(option_name: str, layer: int, encoder_layers: int) -> None:
    if not 1 <= layer <= encoder_layers:
        raise ValueError(f"{option_name}: there is no layer {layer}; the encoder has {encoder_layers}, from 1")
