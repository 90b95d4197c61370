"""Gives the decoder's entity lists to the model's biasing adapter, for the time of a forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nemo_bias.integration.biasing_adapter import Offer
    from nemo_bias.integration.strategy import BiasedBeamInfer

LOADED = "_nemo_bias_adapter_files"  # attribute of a model: the adapter files that were loaded into it


def load_configured_adapter(model: Any, decoders: Sequence[BiasedBeamInfer]) -> None:
    """Loads the `adapter_file` of the decoding config, unless that was done before."""
    for decoder in decoders:
        path = decoder.config.adapter_file
        loaded = model.__dict__.setdefault(LOADED, set())
        if path and path not in loaded:
            from nemo_bias.integration.adapter_file import load_adapter

            load_adapter(model, path)
            loaded.add(path)


@contextmanager
def entities_offered(model: Any, decoders: Sequence[BiasedBeamInfer]) -> Iterator[None]:
    """Within this context the enabled adapters of a model know the lists of the decoders."""
    from nemo_bias.integration.biasing_adapter import enabled_adapters

    adapters = enabled_adapters(model) if any(decoder.config.adapter for decoder in decoders) else []
    try:
        for adapter in adapters:
            adapter.offer(_offer(adapter, model, decoders[0]))
        yield
    finally:
        for adapter in adapters:
            adapter.offer(None)


def _offer(adapter: Any, model: Any, decoder: BiasedBeamInfer) -> Offer | None:
    """The global list, then the own lists of the batch's utterances; each utterance sees the first and its own."""
    import torch

    from nemo_bias.integration.biasing_adapter import Offer

    _, shared = decoder.prepare()
    own = [decoder.own_list(entities) for entities in decoder.utterance_entities or ()]
    lists = [each.phrases for each in ([shared] if shared else []) + [each for each in own if each]]
    if not lists:
        return None
    encoded = [adapter.encode(phrases, tokenizer_of(model)) for phrases in lists]
    entities = encoded[0]
    for each in encoded[1:]:
        entities = entities.joined(each)
    if not any(own):
        return Offer(entities)
    offered = torch.zeros(len(own), len(entities.lengths), dtype=torch.bool)
    first = len(shared.phrases) if shared else 0
    offered[:, :first] = True
    for row, each in zip(offered, own, strict=True):
        if each:
            row[first : first + len(each.phrases)] = True
            first += len(each.phrases)
    return Offer(entities, offered.to(entities.entities.device))


def tokenizer_of(model: Any) -> Any:
    """A function from text to the token ids of a NeMo CTC or hybrid model."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is not None:
        return tokenizer.text_to_ids
    index = {label: k for k, label in enumerate(getattr(model, "ctc_decoder", model.decoder).vocabulary)}
    return lambda text: [index[character] for character in text if character in index]
