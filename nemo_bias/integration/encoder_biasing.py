"""Gives the decoder's entity lists to the model's biasing adapter, for the time of a forward pass."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nemo_bias.decoder.search import CompiledList
from nemo_bias.decoder.spotter import AttendedEntities

if TYPE_CHECKING:
    from nemo_bias.integration.biasing_adapter import BiasingAdapter, Offer
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
    """Within this context the enabled adapters of a model know the lists of the decoders, and these read the attention."""
    from nemo_bias.integration.biasing_adapter import enabled_adapters

    adapters = enabled_adapters(model) if any(decoder.config.adapter for decoder in decoders) else []
    try:
        for adapter in adapters:
            lists = _BatchLists(decoders[0])
            adapter.offer(lists.offer(adapter, tokenizer_of(model)))
            for decoder in decoders:
                decoder.attention = partial(lists.attended, adapter)
        yield
    finally:
        for adapter in adapters:
            adapter.offer(None)


class _BatchLists:
    """The lists of a batch in one row: the global list, then the own lists of the utterances.

    Args:
        decoder: has the global list, and the entities of the utterances that are about to be decoded.
    """

    def __init__(self, decoder: BiasedBeamInfer) -> None:
        _, self._shared = decoder.prepare()
        self._weight = decoder.config.adapter_weight
        self._own = [decoder.own_list(entities) for entities in decoder.utterance_entities or ()]
        self._shared_size = len(self._shared) if self._shared else 0
        self._firsts: list[int] = []  # where each utterance's own list starts
        self._size = self._shared_size
        for each in self._own:
            self._firsts.append(self._size)
            self._size += len(each) if each else 0

    def offer(self, adapter: BiasingAdapter, tokenize: Any) -> Offer | None:
        """The entities as an adapter takes them; None if there are none."""
        import torch

        from nemo_bias.integration.biasing_adapter import Offer

        lists = [each for each in (self._shared, *self._own) if each]
        if not lists:
            return None
        encoded = [adapter.encode(each.phrases, tokenize) for each in lists]
        entities = functools.reduce(lambda left, right: left.joined(right), encoded)
        if not any(self._own):
            return Offer(entities, weight=self._weight)
        offered = torch.zeros(len(self._own), self._size, dtype=torch.bool)
        offered[:, : self._shared_size] = True
        for row, first, each in zip(offered, self._firsts, self._own, strict=True):
            row[first : first + (len(each) if each else 0)] = True
        return Offer(entities, offered.to(entities.keys.device), weight=self._weight)

    def attended(self, adapter: BiasingAdapter, utterance: int, entities: CompiledList) -> AttendedEntities | None:
        """What the adapter's attention said about the entities of one utterance's list, the global one and its own."""
        if adapter.found is None:
            return None
        chosen = adapter.found.chosen[utterance].cpu().numpy()
        first = self._firsts[utterance] if self._own else self._size
        inside = np.where(chosen < self._shared_size, chosen, chosen - first + self._shared_size)
        known = (chosen < self._shared_size) | ((chosen >= first) & (inside < len(entities)))
        column = np.full(len(entities), -1, np.int32)
        column[inside[known]] = np.flatnonzero(known)
        return AttendedEntities(column, adapter.found.entity_log_odds(utterance).cpu().numpy())


def tokenizer_of(model: Any) -> Any:
    """A function from text to the token ids of a NeMo CTC or hybrid model."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is not None:
        return tokenizer.text_to_ids
    index = {label: k for k, label in enumerate(getattr(model, "ctc_decoder", model.decoder).vocabulary)}
    return lambda text: [index[character] for character in text if character in index]
