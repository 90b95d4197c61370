"""Biasing for users of NeMo's Python API."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf, open_dict

from nemo_bias.entities import EntityList
from nemo_bias.integration.decoding.config import STRATEGY, BiasedBeamConfig, biased_beam_config
from nemo_bias.integration.decoding.given import entity_list, read_file
from nemo_bias.integration.decoding.lists import CompiledEntities
from nemo_bias.integration.decoding.model_lists import biased_decoder, change_lists, ctc_config, lists_of
from nemo_bias.integration.encoder.offering import LOADED
from nemo_bias.integration.registration.patches import check_registered

if TYPE_CHECKING:
    from nemo_bias.integration.decoding.given import Entities

BEFORE = "_nemo_bias_before"  # attribute of a model: its decoding strategy before ours, and the decoder of a hybrid
LIST_OPTIONS = ("entity_file", "entities")  # what the argument `entities` stands for
_UNCHANGED: Any = object()


def set_entities(model: Any, entities: Entities = _UNCHANGED, **options: Any) -> None:
    """Makes a NeMo CTC model (or a hybrid one, with its CTC decoder) look for entities in all that it transcribes.

    Afterwards `model.transcribe(..., return_hypotheses=True)` gives hypotheses with `text`, `entity_spans` and `nbest`.
    After an error the model is as it was.

    Args:
        model: a restored NeMo model.
        entities: path of an entity list; or the entities: strings, pairs of a phrase and its weight, mappings with the keys
            of a JSONL list, or `Entity` objects; or weights by phrase; or what `read_entities` or `compile_entities` has
            returned. None, or nothing in the list, leaves only the lists of single utterances. Left out: the list stays.
        options: fields of the config node `biased_beam`, such as `min_probability=0.3` or `nbest=5`; those that are left out
            stay as they are.

    Raises:
        EntityListError: the list is broken.
        TypeError: the model has no CTC decoder, or neither a list nor an option is given.
        UnknownNeMoError: this package stays out of an unknown NeMo.
        ValueError: an option is unknown or has a wrong value, or the list was compiled for other tokens.
    """
    decoding = _decoding_config(model)
    if entities is _UNCHANGED and not options:
        raise TypeError("set_entities: give entities, None to remove those that the model has, or an option")
    _refuse_lists(options, "set_entities")
    given = None
    if entities is _UNCHANGED:
        given = lists_of(model).given
    elif isinstance(entities, str | os.PathLike):
        if not os.path.exists(entities):  # an error, whatever list there was of that name
            read_file(entities, biased_beam_config(options).entity_format)
        options |= {"entity_file": os.fspath(entities), "entities": []}
    else:
        options |= {"entity_file": None, "entities": []}
        given = _given(entities)
    _apply(model, {**_options_of(decoding), **options}, given)


def compile_entities(model: Any, entities: Entities) -> CompiledEntities:
    """Reads and compiles an entity list once, for many calls of `set_entities` and `use_entities`, and many models.

    Args:
        model: a restored NeMo model; all models that shall use the list must have its tokens.
        entities: as for `set_entities`.

    Raises:
        EntityListError: the list is broken.
        TypeError: the model has no CTC decoder.
    """
    config = biased_beam_config(_options_of(_decoding_config(model)))
    given = _read(entities, config)
    if isinstance(given, CompiledEntities):
        return given
    compiled = lists_of(model).plan(config, given or EntityList(())).listed
    assert compiled is not None
    return compiled


@contextmanager
def use_entities(model: Any, entities: Entities, **options: Any) -> Iterator[None]:
    """Within this context, this thread alone decodes with other entities, for example those of a request.

    Args:
        model: a NeMo model that decodes with `biased_beam`, as after `set_entities`.
        entities: as for `set_entities`; they take the place of the model's list.
        options: as for `set_entities`.

    Raises:
        EntityListError: the list is broken.
        TypeError: the model has no CTC decoder.
        ValueError: the model decodes otherwise, or as for `set_entities`.
    """
    _refuse_lists(options, "use_entities")
    node = _options_of(_decoding_config(model))
    if biased_decoder(model) is None:
        raise ValueError("the model does not decode with biased_beam; call set_entities(model, None) once")
    lists = lists_of(model)
    config = biased_beam_config({**node, **options, "entity_file": None, "entities": []})
    config.check()
    prepared = lists.plan(dataclasses.replace(config, entity_format="auto"), _read(entities, config))
    prepared.announced = isinstance(entities, CompiledEntities)
    with lists.used_here(prepared):
        yield


def remove_entities(model: Any) -> None:
    """Lets a model decode as it did before the first `set_entities`.

    Raises:
        TypeError: the model has no CTC decoder.
    """
    decoding = _decoding_config(model)
    strategy, decoder = model.__dict__.pop(BEFORE, ("greedy_batch", None))
    lists_of(model).use_later(BiasedBeamConfig(), None)
    if decoding.strategy == STRATEGY:
        decoding = decoding.copy()
        with open_dict(decoding):
            decoding.strategy = strategy
            decoding.pop(STRATEGY, None)
        _change(model, decoding)
        if decoder is not None:
            model.cur_decoder = decoder


def remove_adapter(model: Any, name: str | None = None) -> None:
    """Removes a biasing adapter from a NeMo model, and from its decoding config the file that it was loaded from.

    Args:
        model: a NeMo model with a biasing adapter.
        name: which, if it has several.

    Raises:
        ValueError: the model has no such adapter, or several and no name is given.
    """
    from nemo_bias.integration.encoder.adapter_file import detach_adapter
    from nemo_bias.integration.encoder.biasing_adapter import biasing_adapters

    present = list(biasing_adapters(model))
    if name is None and len(present) > 1:
        raise ValueError(f"the model has the biasing adapters {', '.join(present)}; say which")
    name = name or (present[0] if present else "")
    detach_adapter(model, name)
    loaded = model.__dict__.get(LOADED, {})
    config = ctc_config(model)
    path = _options_of(config).get("adapter_file") if config is not None else None
    if path and loaded.get(path) in (name, None):
        with open_dict(config):
            config[STRATEGY].adapter_file = None
        if biased_decoder(model) is not None:
            set_entities(model, adapter_file=None)
    for file in [file for file, adapter in loaded.items() if adapter == name]:
        del loaded[file]


def _refuse_lists(options: Mapping[str, Any], function: str) -> None:
    """Refuses lists among the options of a function that takes one as its second argument."""
    for name in LIST_OPTIONS:
        if name in options:
            raise ValueError(f"{name}: give the list, or its path, as the second argument: {function}(model, ...)")


def _read(entities: Any, config: BiasedBeamConfig) -> EntityList | CompiledEntities | None:
    """A list, in a file or not; None if it has no entities."""
    if isinstance(entities, str | os.PathLike):
        return read_file(entities, config.entity_format)
    return _given(entities)


def _given(entities: Any) -> EntityList | CompiledEntities | None:
    """A list that is not in a file; None if it has no entities."""
    if entities is None or isinstance(entities, CompiledEntities):
        return entities
    listed = entity_list(entities)
    return listed if len(listed) else None


def _decoding_config(model: Any) -> Any:
    check_registered()
    config = ctc_config(model)
    if config is None:
        raise TypeError(f"{type(model).__name__} has no CTC decoder; nemo_bias needs a CTC or hybrid model")
    return config


def _options_of(decoding: Any) -> dict[str, Any]:
    """The options of ours that a decoding config has."""
    node = decoding.get(STRATEGY)
    return {} if node is None else OmegaConf.to_container(node, resolve=True)  # type: ignore[return-value]


def _apply(model: Any, options: dict[str, Any], given: EntityList | CompiledEntities | None) -> None:
    """Sets the options and the list."""
    config = biased_beam_config(options)
    before, decoder = _decoding_config(model), getattr(model, "cur_decoder", None)
    decoding = before.copy()
    with open_dict(decoding):
        decoding.strategy = STRATEGY
        decoding[STRATEGY] = {name: value for name, value in dataclasses.asdict(config).items() if name in options}
    change_lists(model, config, given, lambda: _change(model, decoding))
    if before.strategy != STRATEGY:
        model.__dict__[BEFORE] = before.strategy, decoder


def _change(model: Any, decoding: Any) -> None:
    if hasattr(model, "ctc_decoding"):
        model.change_decoding_strategy(decoding, decoder_type="ctc", verbose=False)
    else:
        model.change_decoding_strategy(decoding, verbose=False)
