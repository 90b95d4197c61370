"""A NeMo model and the owner of its lists: what is in use, what the log says of it, and how it is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nemo_bias.integration.decoding.config import STRATEGY, BiasedBeamConfig, biased_beam_config
from nemo_bias.integration.decoding.effects import Situation, tell_effects
from nemo_bias.integration.decoding.given import GIVEN
from nemo_bias.integration.decoding.lists import CompiledEntities, ModelLists, PreparedLists, owned_by
from nemo_bias.integration.decoding.manifest_entities import check_manifest
from nemo_bias.integration.decoding.saving import OWNER
from nemo_bias.integration.decoding.strategy import BiasedBeamInfer, vocabulary_of
from nemo_bias.integration.encoder.adapter_config import ctc_decoding
from nemo_bias.integration.encoder.offering import load_configured_adapter
from nemo_bias.integration.switch import switched_off
from nemo_bias.languages import ENGLISH

if TYPE_CHECKING:
    from nemo_bias.entities import EntityList

SAID = "_nemo_bias_said"  # attribute of a model: what was in use when it was last told what has no effect


def ctc_config(model: Any) -> Any:
    """The decoding config of a model's CTC decoder; None if it has no such decoder."""
    if hasattr(model, "ctc_decoding"):  # a hybrid
        return model.cfg.aux_ctc.decoding
    kind = type(getattr(model, "decoding", None)).__name__
    return model.cfg.decoding if kind.startswith("CTC") and hasattr(model, "change_decoding_strategy") else None


def biased_decoder(model: Any) -> BiasedBeamInfer | None:
    """The CTC decoder of a model, if it is ours."""
    decoder = getattr(getattr(model, "ctc_decoding", getattr(model, "decoding", None)), "decoding", None)
    return decoder if isinstance(decoder, BiasedBeamInfer) else None


def lists_of(model: Any) -> ModelLists:
    """The owner of the lists of a model with a CTC decoder. It outlives the decoders that NeMo makes for the model."""
    lists: ModelLists | None = model.__dict__.get(OWNER)
    decoder = biased_decoder(model)
    if lists is None:
        lists = decoder.lists if decoder else ModelLists(partial(vocabulary_of, ctc_decoding(model)), BiasedBeamConfig())
        model.__dict__[OWNER] = lists
    elif decoder is not None and decoder.lists is not lists:  # it was built by others than NeMo's models
        given, lists = lists.given_entities, decoder.lists
        model.__dict__[OWNER] = lists
        if given is not None:
            lists.use_later(lists.config, given)
    return lists


def in_use(model: Any) -> PreparedLists | None:
    """What the model decodes the next batch with; None if our strategy has no part in that."""
    if switched_off() or getattr(model, "cur_decoder", "ctc") != "ctc" or biased_decoder(model) is None:
        return None
    return lists_of(model).current


def entities_in_use(model: Any) -> tuple[EntityList, str]:
    """The list that the model decodes with, as it was read, and the code of its language; an empty one if there is none."""
    from nemo_bias.entities import EntityList

    prepared = in_use(model)
    if prepared is None or prepared.listed is None:
        return EntityList(()), ENGLISH
    return prepared.listed.entities, prepared.config.language


def get_ready(model: Any) -> PreparedLists | None:
    """Everything before the first batch: the list is compiled, the adapter is loaded, and the user knows what is in use.

    Returns:
        As `in_use`.
    """
    prepared = in_use(model)
    if prepared is not None:
        load_configured_adapter(model, prepared.config)
        announce(model, prepared)
    if SAID not in model.__dict__ or model.__dict__[SAID] is not prepared:
        model.__dict__[SAID] = prepared
        tell_effects(model, situation_of(model, prepared))
    return prepared


def announce(model: Any, prepared: PreparedLists) -> None:
    """Logs which list is in use, once."""
    from nemo.utils import logging

    from nemo_bias.integration.encoder.biasing_adapter import biasing_adapters, enabled_adapters

    if prepared.listed is None or prepared.announced:
        return
    prepared.announced = True
    enabled = enabled_adapters(model) if prepared.config.adapter else []
    names = [name for name, adapter in biasing_adapters(model).items() if any(adapter is each for each in enabled)]
    listed = prepared.listed
    suppressed = len(listed.compiled.suppressed)
    count = f"{len(listed)} phrase{'' if len(listed) == 1 else 's'}"
    count += f", {suppressed} more that {'is' if suppressed == 1 else 'are'} kept out of the text" if suppressed else ""
    source = "" if listed.source == GIVEN else f" of {listed.source}"
    say = logging.info if len(listed) or suppressed else logging.warning
    adapters = f", adapter {' and '.join(names)}" if names else ""
    say(f"nemo_bias: {count}{source}, method {prepared.config.method}{adapters}")
    if left_out := prepared.config.unknown_to_language:
        logging.info(f"nemo_bias: language {prepared.config.language}: without {', '.join(left_out)}")


def read_own_lists(model: Any, prepared: PreparedLists, manifest: str | None) -> None:
    """Checks the lists of single utterances, and tells what has no effect with these and the model's.

    Args:
        model: is about to transcribe.
        prepared: what it will decode with.
        manifest: the file with the utterances; None: they come without one.

    Raises:
        EntityListError: a line's entities are broken.
    """
    path, has_field, own = (None, False, []) if manifest is None else check_manifest(manifest, prepared)
    tell_effects(model, replace(situation_of(model, prepared), own=own, manifest=path, has_field=has_field))


def situation_of(model: Any, prepared: PreparedLists | None, node: Any = None) -> Situation:
    """How a model is about to decode, with its own decoding config or that of a program, `node`."""
    from nemo_bias.integration.encoder.biasing_adapter import enabled_adapters

    own = ctc_config(model)
    node = own if node is None else node
    given = None if own is None else lists_of(model).given_entities
    listed = prepared.listed.entities if prepared and prepared.listed else given or ()
    return Situation(
        model=type(model).__name__,
        has_ctc=own is not None,
        transducer=getattr(model, "cur_decoder", "ctc") != "ctc",
        strategy=None if node is None else node.get("strategy"),
        config=prepared.config if prepared else biased_beam_config(None if node is None else node.get(STRATEGY)),
        entities=tuple(listed),
        given=given is not None,
        adapters=enabled_adapters(model),
    )


def change_lists(
    model: Any, options: BiasedBeamConfig, given: EntityList | CompiledEntities | None, change: Callable[[], Any]
) -> None:
    """Prepares lists, lets NeMo build the model's decoder, and swaps; after an error everything is as it was.

    Args:
        model: a model with a CTC decoder.
        options: those of the new decoder.
        given: a list that is not among them.
        change: sets the decoding config.

    Raises:
        EntityListError: the list is broken.
        ValueError: an option has a wrong value.
    """
    lists = lists_of(model)
    options.check()
    prepared = None if switched_off() else lists.plan(options, given)
    if prepared is not None:
        load_configured_adapter(model, options)
    with owned_by(lists):
        change()
    if prepared is None:
        lists.use_later(options, given)
    else:
        lists.use(prepared)
        announce(model, prepared)
