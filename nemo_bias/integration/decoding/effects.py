"""What a user has set and what cannot take effect: one table, and one way to say it.

Whenever a model's decoding is set, and again when it is known which lists a manifest has, the table is gone through, and
each thing that newly has no effect is told in a warning.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nemo_bias.integration.decoding.config import STRATEGY, BiasedBeamConfig
from nemo_bias.integration.switch import OFF_SWITCH, switched_off

if TYPE_CHECKING:
    from nemo_bias.entities import Entity
    from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter

TOLD = "_nemo_bias_told"  # attribute of a model: what has no effect and was told
TOLD_OF_LISTS = "_nemo_bias_told_of_lists"  # likewise, of what was ever told when the lists were known
LIST, OWN_LISTS, PRONUNCIATIONS, WEIGHTS = (
    "the entity list",
    "every list of a single utterance",
    "every pronunciation in the entity list",
    "every weight in the entity list",
)


@dataclass(frozen=True)
class Situation:
    """How a model is about to decode.

    Attributes:
        model: name of its class.
        has_ctc: whether it has a CTC decoder.
        transducer: whether it decodes with its transducer.
        strategy: of the CTC decoding config.
        config: the options of ours, whether they are used or not.
        entities: of the list that it has.
        given: whether that was given in Python, and is not in the config.
        adapters: those that are enabled.
        own: entities of the lists of single utterances, one of each kind; None: it is not known yet what is decoded.
        manifest: the file with these lists; None: the audio comes without one.
        has_field: whether a line of it has the field for lists, be it empty.
    """

    model: str
    has_ctc: bool
    transducer: bool
    strategy: str | None
    config: BiasedBeamConfig
    entities: Sequence[Entity] = ()
    given: bool = False
    adapters: Sequence[BiasingAdapter] = ()
    own: Sequence[Entity] | None = None
    manifest: str | None = None
    has_field: bool = False

    @property
    def every(self) -> Sequence[Entity]:
        """Entities of all lists."""
        return (*self.entities, *(self.own or ()))

    @property
    def contextual(self) -> bool:
        """Whether an adapter uses lists."""
        return self.config.adapter and any(adapter.contextual is not None for adapter in self.adapters)

    @property
    def phones(self) -> bool:
        """Whether a phone head listens."""
        return any(adapter.phones is not None for adapter in self.adapters)

    def set_things(self) -> list[str]:
        """What the user asks for: options that are neither at their defaults nor switched off, and what the list holds."""
        options = dataclasses.asdict(self.config)
        things = [name for name, value in options.items() if value != _DEFAULTS[name] and not _is_off(value)]
        if self.given:
            things.append(LIST)
        if self.own:
            things.append(OWN_LISTS)
        if any(entity.pronunciations for entity in self.every):
            things.append(PRONUNCIATIONS)
        if any(entity.weight != 1.0 for entity in self.every):
            things.append(WEIGHTS)
        if self.strategy == STRATEGY:
            things.append("strategy")
        return things


_DEFAULTS = dataclasses.asdict(BiasedBeamConfig())
_ALL = (*_DEFAULTS, LIST, OWN_LISTS)
_LISTS = ("entity_file", "entities", LIST, OWN_LISTS)
_BY_SOUND = ("pronunciations", PRONUNCIATIONS)
_ARCS = ("word_frequencies", "evidence_file", "lookup_distance", "variants", "g2g_file")  # what only method arcs uses
_BEAM = ("beam_size", "token_margin", "most_tokens", "nbest")  # what a beam search with a language model uses, too
_LANGUAGE_MODEL = ("lm_weight", "word_bonus", "oov_boost", "entity_boost")  # what only a language model uses
_DECODER = (  # what the decoder does with a list, but not an adapter
    *("min_probability", "weight", "phone_weight", "boost", "entity_boost", "class_boosts", WEIGHTS),
    *(*_BY_SOUND, *_ARCS),
)


class Rule(NamedTuple):
    """A reason why some things have no effect.

    Attributes:
        things: which ones.
        holds: whether the reason holds.
        reason: the reason.
        remedy: what to do.
    """

    things: Sequence[str]
    holds: Callable[[Situation], bool]
    reason: str
    remedy: str


RULES = (  # the first that holds counts
    Rule(_ALL, lambda s: switched_off(), "the environment variable {off} is {value}", "unset it"),
    Rule(
        (*_ALL, "strategy"),
        lambda s: not s.has_ctc,
        "{model} has no CTC decoder",
        "use a CTC checkpoint, or a hybrid one with decoder_type=ctc",
    ),
    Rule((*_ALL, "strategy"), lambda s: s.transducer, "{model} decodes with its transducer", "set decoder_type=ctc"),
    Rule(_ALL, lambda s: s.strategy != STRATEGY, "strategy is {strategy}", f"set strategy={STRATEGY}"),
    Rule(
        _LISTS,
        lambda s: s.config.method == "greedy" and not s.contextual,
        "method is greedy, with which only an adapter uses it, and no adapter is in use",
        "set method=arcs, or load an adapter",
    ),
    Rule(_LANGUAGE_MODEL, lambda s: not s.config.lm_file, "there is no lm_file", "give a language model"),
    Rule(_DECODER, lambda s: s.config.method == "greedy", "method is greedy", "set method=arcs"),
    Rule(_BEAM, lambda s: s.config.method == "greedy" and not s.config.lm_file, "method is greedy", "set method=arcs"),
    Rule(("boost",), lambda s: s.config.method != "adaptive", "method is {method}", "set method=adaptive"),
    Rule(
        ("beam_size",),
        lambda s: s.config.method == "arcs" and not s.config.lm_file,
        "method is arcs, and there is no lm_file",
        "set method=adaptive, or give a language model",
    ),
    Rule(_ARCS, lambda s: s.config.method != "arcs", "method is {method}", "set method=arcs"),
    Rule(
        ("min_probability", "entity_boost", "class_boosts"),
        lambda s: s.config.method == "adaptive",
        "method is adaptive",
        "set method=arcs",
    ),
    Rule(
        _BY_SOUND,
        lambda s: s.config.method == "adaptive" and not s.phones,
        "method is adaptive, and the model has no phone head",
        "set method=arcs",
    ),
    Rule(
        ("lookup_distance", "phone_weight", PRONUNCIATIONS),
        lambda s: s.config.pronunciation_source is None,
        "pronunciations is null, or auto and the language not English",
        "set pronunciations=en, or to a lexicon",
    ),
    Rule(
        ("phone_weight",),
        lambda s: s.config.phone_weight > 0 and not s.phones,
        "the model has no phone head",
        "load an adapter that has one, with adapter_file",
    ),
    Rule(
        ("adapter_weight",),
        lambda s: not s.config.adapter,
        "adapter is false",
        "set adapter=true",
    ),
    Rule(
        ("adapter_weight",),
        lambda s: not s.contextual,
        "no adapter with a contextual part is in use",
        "load one with adapter_file, or enable it",
    ),
    Rule(
        ("adapter_file",),
        lambda s: not s.contextual and (not s.phones or s.config.method == "greedy"),
        "nothing of the adapter is in use",
        "set adapter=true, or enable it with set_enabled_adapters",
    ),
    Rule(
        ("g2g_file",),
        lambda s: "g2g" not in s.config.variants,
        "g2g is not among the variants",
        "add it",
    ),
    Rule(
        ("entity_field",),
        lambda s: s.own is not None and not s.has_field,
        "{no_field}",
        "name the field, or leave entity_field out",
    ),
    Rule(
        ("min_probability", "weight", "boost", "entity_boost", "class_boosts", "adapter_weight", *_ARCS),
        lambda s: s.own is not None and not s.every,
        "there is no entity list",
        "give entity_file, or lists of single utterances in a manifest",
    ),
    Rule(
        ("most_tokens", "token_margin", "nbest", "threads", "phone_weight", "pronunciations"),
        lambda s: s.own is not None and not s.every and not s.config.lm_file,
        "there is no entity list",
        "give entity_file, or lists of single utterances in a manifest",
    ),
    Rule(("entity_format",), lambda s: not s.config.entity_file, "there is no entity_file", "give the file"),
)


def without_effect(situation: Situation) -> Iterator[str]:
    """A sentence for each reason why things that the user has set have no effect."""
    left = situation.set_things()
    config = situation.config
    for rule in RULES:
        void = [thing for thing in left if thing in rule.things]
        if void and rule.holds(situation):
            left = [thing for thing in left if thing not in void]
            reason = rule.reason.format(
                off=OFF_SWITCH, value=os.environ.get(OFF_SWITCH), method=config.method, **_names(situation)
            )
            yield f"{_joined(void)} {'has' if len(void) == 1 else 'have'} no effect because {reason}; {rule.remedy}"
    if situation.own is not None and situation.every:
        classes = sorted({entity.entity_class for entity in situation.every} - {""})
        for name in sorted(set(config.class_boosts) - set(classes)):
            known = ", ".join(classes) or "none"
            yield f"class_boosts: no entity of the list has the class {name!r}; its classes: {known}"


def tell_effects(model: Any, situation: Situation) -> None:
    """Warns of what has no effect, once, and again only if it had one in between.

    What is told because of the lists that come with the audio is told once: the next audio may have others.
    """
    from nemo.utils import logging

    told, told_of_lists = model.__dict__.get(TOLD, []), model.__dict__.setdefault(TOLD_OF_LISTS, set())
    messages = list(without_effect(situation))
    new = [message for message in messages if message not in told and message not in told_of_lists]
    if situation.own is None:
        model.__dict__[TOLD] = messages
    else:
        told_of_lists.update(new)
    for message in new:
        logging.warning(f"nemo_bias: {message}")


def _is_off(value: Any) -> bool:
    return value is None or value is False or value == [] or value == {}


def _names(situation: Situation) -> dict[str, Any]:
    manifest = situation.manifest
    no_field = f"no line of {manifest} has that field" if manifest else "the audio comes without a manifest"
    return {"model": situation.model, "strategy": situation.strategy, "no_field": no_field}


def _joined(things: Sequence[str]) -> str:
    names = [f"{STRATEGY}.{thing}" if thing in _DEFAULTS else thing for thing in things]
    names = [f"strategy={STRATEGY}" if name == "strategy" else name for name in names]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
