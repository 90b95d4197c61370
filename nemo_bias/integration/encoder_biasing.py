"""Gives the decoder's entity lists to the model's biasing adapter, for the time of a forward pass."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nemo_bias.decoder.search import CompiledList
    from nemo_bias.decoder.spotter import AttendedEntities
    from nemo_bias.integration.biasing_adapter import BiasingAdapter, Offer
    from nemo_bias.integration.strategy import BiasedBeamInfer

LOADED = "_nemo_bias_adapter_files"  # attribute of a model: the adapter files that were loaded into it


def load_configured_adapter(model: Any, decoders: Sequence[BiasedBeamInfer]) -> None:
    """Loads the `adapter_file` of the decoding config, unless that was done before."""
    for decoder in decoders:
        path = decoder.config.adapter_file
        loaded = model.__dict__.setdefault(LOADED, set())
        if path and path not in loaded:
            from nemo_bias.integration.adapter_file import holds_adapters, load_adapter

            if not holds_adapters(model, path):
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
    """The entities of a batch: those of the global list, then those that only utterances' own lists have.

    Args:
        decoder: has the global list, and the entities of the utterances that are about to be decoded.
    """

    def __init__(self, decoder: BiasedBeamInfer) -> None:
        _, shared = decoder.prepare()
        self._weight = decoder.config.adapter_weight
        self._shared = shared.phrases if shared else ()
        own = [decoder.own_list(entities) for entities in decoder.utterance_entities or ()]
        places = {phrase: k for k, phrase in enumerate(self._shared)}
        self._places = []  # of each utterance's entities: the global ones, then its own
        for each in own:
            own_places = [places.setdefault(phrase, len(places)) for phrase in (each.phrases if each else ())]
            self._places.append([*range(len(self._shared)), *own_places])
        self._own = tuple(places)[len(self._shared) :]

    def offer(self, adapter: BiasingAdapter, tokenize: Any) -> Offer | None:
        """The entities as an adapter takes them; None if there are none."""
        import torch

        from nemo_bias.integration.biasing_adapter import Offer

        lists = [phrases for phrases in (self._shared, self._own) if phrases]
        if not lists:
            return None
        entities = functools.reduce(
            lambda left, right: left.joined(right), [adapter.encode(phrases, tokenize) for phrases in lists]
        )
        if not self._own:
            return Offer(entities, weight=self._weight)
        offered = torch.zeros(len(self._places), len(entities.lengths), dtype=torch.bool)
        for row, places in zip(offered, self._places, strict=True):
            row[places] = True
        return Offer(entities, offered.to(entities.keys.device), weight=self._weight)

    def attended(self, adapter: BiasingAdapter, utterance: int, entities: CompiledList) -> AttendedEntities | None:
        """What the adapter's attention said about the entities of one utterance's list, the global one and its own."""
        from nemo_bias.decoder.spotter import AttendedEntities

        if adapter.found is None:
            return None
        chosen = adapter.found.chosen[utterance].tolist()
        columns = np.full(max(len(self._shared) + len(self._own), 1), -1, np.int32)
        columns[chosen] = np.arange(len(chosen))
        places = self._places[utterance] if self._places else range(len(self._shared))
        return AttendedEntities(columns[list(places)], adapter.found.entity_log_odds(utterance).cpu().numpy())


def tokenizer_of(model: Any) -> Any:
    """A function from text to the token ids of a NeMo CTC or hybrid model."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is not None:
        return tokenizer.text_to_ids
    index = {label: k for k, label in enumerate(getattr(model, "ctc_decoder", model.decoder).vocabulary)}
    return lambda text: [index[character] for character in text if character in index]
