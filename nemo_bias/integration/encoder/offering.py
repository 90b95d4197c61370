"""Tells the model's biasing adapter what its decoder wants of it, for the time of a forward pass."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from nemo_bias.integration.encoder.adapter_config import ctc_head
from nemo_bias.integration.encoder.handover import forget, handed_over

if TYPE_CHECKING:
    from nemo_bias.integration.decoding.config import BiasedBeamConfig
    from nemo_bias.integration.decoding.strategy import BiasedBeamInfer
    from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter, Offer

LOADED = "_nemo_bias_adapter_files"  # attribute of a model: the adapter files that were loaded into it


def load_configured_adapter(model: Any, decoders: Sequence[BiasedBeamInfer]) -> None:
    """Loads the `adapter_file` of the decoding config, unless that was done before."""
    for decoder in decoders:
        path = decoder.config.adapter_file
        loaded = model.__dict__.setdefault(LOADED, set())
        if path and path not in loaded:
            from nemo_bias.integration.encoder.adapter_file import holds_adapters, load_adapter

            if not holds_adapters(model, path):
                load_adapter(model, path)
            loaded.add(path)


@contextmanager
def entities_offered(model: Any, decoders: Sequence[BiasedBeamInfer]) -> Iterator[None]:
    """Within this context, in which a model encodes one batch, its enabled adapters know the lists of the decoders.

    The decoders get a `HandOver` in return. Of several phone heads, the first one listens.
    """
    from nemo_bias.integration.encoder.biasing_adapter import enabled_adapters

    forget(decoders)
    adapters = enabled_adapters(model) if decoders else []
    lists = _lists_of(decoders[0]) if adapters else None
    listener = next((adapter for adapter in adapters if adapter.phones is not None), None)
    try:
        if lists is not None:
            for adapter in adapters:
                adapter.offer(_offer(decoders[0].config, lists, adapter, tokenizer_of(model), adapter is listener))
        with handed_over(model, adapters, decoders) if any(adapter.active for adapter in adapters) else nullcontext():
            yield
    finally:
        for adapter in adapters:
            adapter.offer(None)


class _Lists(NamedTuple):
    """The entity lists of a batch.

    Attributes:
        shared: the phrases of the global list.
        own: those that only utterances' own lists have.
        places: [B] of each utterance's own entities, their places in `shared + own`.
    """

    shared: tuple[str, ...]
    own: tuple[str, ...]
    places: list[list[int]]


def _lists_of(decoder: BiasedBeamInfer) -> _Lists | None:
    """The lists of the batch that a decoder is about to decode; None if they are empty."""
    _, listed = decoder.prepare()
    shared = listed.phrases if listed else ()
    place = {phrase: k for k, phrase in enumerate(shared)}
    places = []
    for utterance in decoder.utterance_entities or ():
        own_list = decoder.own_list(utterance)
        places.append([place.setdefault(phrase, len(place)) for phrase in (own_list.phrases if own_list else ())])
    return _Lists(shared, tuple(place)[len(shared) :], places) if place else None


def _offer(config: BiasedBeamConfig, lists: _Lists, adapter: BiasingAdapter, tokenize: Any, listener: bool) -> Offer:
    """What is wanted of an adapter in a batch.

    Args:
        config: of the decoder.
        lists: of the batch.
        adapter: encodes the lists.
        tokenize: gives the token ids of a phrase.
        listener: whether its phone head may be asked.
    """
    import torch

    from nemo_bias.integration.encoder.biasing_adapter import Offer

    phones = listener and config.method != "greedy"
    if adapter.contextual is None or not config.adapter:
        return Offer(phones=phones)
    encoded = [adapter.encode(phrases, tokenize) for phrases in (lists.shared, lists.own) if phrases]
    entities = functools.reduce(lambda left, right: left.joined(right), encoded)
    if not lists.own:
        return Offer(entities, weight=config.adapter_weight, phones=phones)
    offered = torch.zeros(len(lists.places), len(lists.shared) + len(lists.own), dtype=torch.bool)
    offered[:, : len(lists.shared)] = True
    for row, own_columns in zip(offered, lists.places, strict=True):
        row[own_columns] = True
    return Offer(entities, offered.to(entities.keys.device), weight=config.adapter_weight, phones=phones)


def tokenizer_of(model: Any) -> Any:
    """A function from text to the token ids of a NeMo CTC or hybrid model."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is not None:
        return tokenizer.text_to_ids
    index = {label: k for k, label in enumerate(ctc_head(model).vocabulary)}
    return lambda text: [index[character] for character in text if character in index]
