"""Biasing for users of NeMo's Python API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import open_dict

from nemo_bias.integration.decoding.config import STRATEGY, biased_beam_config
from nemo_bias.integration.registration.patches import check_registered


def set_entities(model: Any, entities: str | Iterable[str | Mapping[str, Any]] = (), **options: Any) -> None:
    """Makes a NeMo CTC model (or a hybrid one, with its CTC decoder) look for entities in all that it transcribes.

    Afterwards `model.transcribe(..., return_hypotheses=True)` gives hypotheses with `text`, `entity_spans` and `nbest`.

    Args:
        model: a restored NeMo model.
        entities: path of an entity list, or the entities: strings, or mappings with the keys of a JSONL list.
        options: fields of the config node `biased_beam`, such as `min_probability=0.3` or `nbest=5`.

    Raises:
        EntityListError: the list is broken.
        TypeError: the model has no CTC decoder.
        UnknownNeMoError: this package stays out of an unknown NeMo.
        ValueError: an option is unknown or has a wrong value.
    """
    from nemo_bias.integration.decoding.manifest_entities import biased_decoders

    check_registered()
    hybrid = hasattr(model, "ctc_decoding")
    if not hybrid and not (hasattr(model, "change_decoding_strategy") and type(model.decoding).__name__.startswith("CTC")):
        raise TypeError(f"{type(model).__name__} has no CTC decoder; nemo_bias needs a CTC or hybrid model")
    key = "entity_file" if isinstance(entities, str) else "entities"
    options[key] = entities if isinstance(entities, str) else list(entities)
    biased_beam_config(options)
    current = model.cfg.aux_ctc.decoding if hybrid else model.cfg.decoding
    decoding = current.copy()
    with open_dict(decoding):
        decoding.strategy = STRATEGY
        decoding[STRATEGY] = options
    if hybrid:
        model.change_decoding_strategy(decoding, decoder_type="ctc", verbose=False)
    else:
        model.change_decoding_strategy(decoding, verbose=False)
    for decoder in biased_decoders(model):
        decoder.prepare()
