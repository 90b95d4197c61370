"""Tells the model's biasing adapters what its decoder wants of them, for the time of a forward pass."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from nemo_bias.integration.encoder.adapter_config import ctc_head

if TYPE_CHECKING:
    from nemo_bias.integration.decoding.config import BiasedBeamConfig
    from nemo_bias.integration.decoding.lists import BatchLists
    from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter, Offer

LOADED = "_nemo_bias_adapter_files"  # attribute of a model: its adapter files, and which adapters were loaded from them
_loading = threading.Lock()


def load_configured_adapter(model: Any, config: BiasedBeamConfig) -> None:
    """Loads the `adapter_file` of the decoding config, unless that was done before."""
    path = config.adapter_file
    with _loading:
        loaded = model.__dict__.setdefault(LOADED, {})
        if path and path not in loaded:
            from nemo_bias.integration.encoder.adapter_file import holds_adapters, load_adapter

            loaded[path] = None if holds_adapters(model, path) else load_adapter(model, path).name


@contextmanager
def offered(model: Any, lists: BatchLists) -> Iterator[bool]:
    """Within this context, in which a model encodes one batch, its enabled adapters know the lists.

    Of several phone heads, the first one listens. Adapters that are offered something already, as in training, keep that.

    Yields:
        Whether anything is wanted of them.
    """
    from nemo_bias.integration.encoder.biasing_adapter import enabled_adapters

    adapters = enabled_adapters(model)
    listed = _listed(lists) if adapters and not any(adapter.active for adapter in adapters) else None
    if listed is None:
        yield False
        return
    listener = next((adapter for adapter in adapters if adapter.phones is not None), None)
    try:
        for adapter in adapters:
            adapter.offer(_offer(lists.prepared.config, listed, adapter, tokenizer_of(model), adapter is listener))
        yield any(adapter.active for adapter in adapters)
    finally:
        for adapter in adapters:
            adapter.offer(None)


class _Listed(NamedTuple):
    """The phrases of the lists of a batch.

    Attributes:
        shared: those of the list of all utterances.
        own: those that only utterances' own lists have.
        places: [B] of each utterance's own entities, their places in `shared + own`; empty if none has any.
    """

    shared: tuple[str, ...]
    own: tuple[str, ...]
    places: list[list[int]]


def _listed(lists: BatchLists) -> _Listed | None:
    """The phrases of a batch; None if there are none."""
    shared = lists.prepared.shared.phrases if lists.prepared.shared else ()
    place = {phrase: k for k, phrase in enumerate(shared)}
    places = [[place.setdefault(phrase, len(place)) for phrase in (own.phrases if own else ())] for own in lists.own]
    return _Listed(shared, tuple(place)[len(shared) :], places) if place else None


def _offer(config: BiasedBeamConfig, listed: _Listed, adapter: BiasingAdapter, tokenize: Any, listener: bool) -> Offer:
    """What is wanted of an adapter in a batch.

    Args:
        config: of the decoder.
        listed: the lists of the batch.
        adapter: encodes them.
        tokenize: gives the token ids of a phrase.
        listener: whether its phone head may be asked.
    """
    import torch

    from nemo_bias.integration.encoder.biasing_adapter import Offer

    phones = listener and config.method != "greedy"
    if adapter.contextual is None or not config.adapter:
        return Offer(phones=phones)
    encoded = [adapter.encode(phrases, tokenize) for phrases in (listed.shared, listed.own) if phrases]
    entities = functools.reduce(lambda left, right: left.joined(right), encoded)
    if not listed.own:
        return Offer(entities, weight=config.adapter_weight, phones=phones)
    rows = torch.zeros(len(listed.places), len(listed.shared) + len(listed.own), dtype=torch.bool)
    rows[:, : len(listed.shared)] = True
    for row, own_columns in zip(rows, listed.places, strict=True):
        row[own_columns] = True
    return Offer(entities, rows.to(entities.keys.device), weight=config.adapter_weight, phones=phones)


def tokenizer_of(model: Any) -> Any:
    """A function from text to the token ids of a NeMo CTC or hybrid model."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is not None:
        return tokenizer.text_to_ids
    index = {label: k for k, label in enumerate(ctc_head(model).vocabulary)}
    return lambda text: [index[character] for character in text if character in index]
