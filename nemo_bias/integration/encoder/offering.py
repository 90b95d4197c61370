"""Gives the decoder's entity lists to the model's biasing adapter, for the time of a forward pass."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from nemo_bias.integration.encoder.adapter_config import ctc_head
from nemo_bias.integration.encoder.unbiased import forget_unbiased, unbiased_handed_over

if TYPE_CHECKING:
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

    The decoders get the log-probs without bias in return.
    """
    from nemo_bias.integration.encoder.biasing_adapter import enabled_adapters

    forget_unbiased(decoders)
    adapters = enabled_adapters(model) if any(decoder.config.adapter for decoder in decoders) else []
    try:
        offers = [_offer(decoders[0], adapter, tokenizer_of(model)) for adapter in adapters]
        for adapter, offer in zip(adapters, offers, strict=True):
            adapter.offer(offer)
        with unbiased_handed_over(model, decoders) if any(offers) else nullcontext():
            yield
    finally:
        for adapter in adapters:
            adapter.offer(None)


def _offer(decoder: BiasedBeamInfer, adapter: BiasingAdapter, tokenize: Any) -> Offer | None:
    """The entities of a batch, as an adapter takes them: those of the global list, then those that only utterances' own
    lists have; None if there are none.

    Args:
        decoder: has the global list, and the entities of the utterances that are about to be decoded.
        adapter: encodes the lists.
        tokenize: gives the token ids of a phrase.
    """
    import torch

    from nemo_bias.integration.encoder.biasing_adapter import Offer

    _, listed = decoder.prepare()
    shared = listed.phrases if listed else ()
    places = {phrase: k for k, phrase in enumerate(shared)}
    own_places = []  # of each utterance's own entities
    for utterance in decoder.utterance_entities or ():
        own_list = decoder.own_list(utterance)
        own_places.append([places.setdefault(phrase, len(places)) for phrase in (own_list.phrases if own_list else ())])
    own = tuple(places)[len(shared) :]
    lists = [adapter.encode(phrases, tokenize) for phrases in (shared, own) if phrases]
    if not lists:
        return None
    entities = functools.reduce(lambda left, right: left.joined(right), lists)
    weight = decoder.config.adapter_weight
    if not own:
        return Offer(entities, weight=weight)
    offered = torch.zeros(len(own_places), len(places), dtype=torch.bool)
    offered[:, : len(shared)] = True
    for row, own_columns in zip(offered, own_places, strict=True):
        row[own_columns] = True
    return Offer(entities, offered.to(entities.keys.device), weight=weight)


def tokenizer_of(model: Any) -> Any:
    """A function from text to the token ids of a NeMo CTC or hybrid model."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is not None:
        return tokenizer.text_to_ids
    index = {label: k for k, label in enumerate(ctc_head(model).vocabulary)}
    return lambda text: [index[character] for character in text if character in index]
