"""A model's entity lists: read, normalised, compiled, remembered, and swapped as a whole.

Everything that can fail comes first (`ModelLists.plan`), and then a `PreparedLists`, which does not change any more, takes
the place of the one before (`ModelLists.use`). Whoever decodes or biases a batch takes one `PreparedLists` for all of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.entities import EntityList, parse_entities
from nemo_bias.integration.decoding.config import STRATEGY, BiasedBeamConfig
from nemo_bias.integration.decoding.given import read_file, source_of

if TYPE_CHECKING:  # the decoder's compiled code is loaded when it is needed; this module is loaded with NeMo
    from nemo_bias.decoder.entity_list import CompiledList
    from nemo_bias.decoder.search import BiasedBeamSearch
    from nemo_bias.decoder.vocabulary import Vocabulary

COMPILED_WITH = (
    "method",
    "language",
    "pronunciations",
    "variants",
    "g2g_file",
    "word_frequencies",
)  # options that a compiled list depends on
SHOWN_NOTES = 20  # notes on an entity list that are logged one by one
REMEMBERED_LISTS = 1000  # of single utterances
_compiling = threading.RLock()  # several threads that need the same list compile it once


@dataclass(frozen=True, eq=False)
class CompiledEntities:
    """An entity list that is compiled for a tokenizer, for any number of models that have it, and calls.

    Attributes:
        entities: the list as it was read.
        compiled: its phrases as the decoder takes them.
        vocabulary: the tokens that it was compiled for.
        options: those of `COMPILED_WITH` that it was compiled with.
        origin: what the config said of the list, and the state of the file; None if it does not come from a config.
    """

    entities: EntityList
    compiled: CompiledList
    vocabulary: Vocabulary
    options: tuple[Any, ...]
    origin: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        """How many phrases the model can write."""
        return int(self.compiled.written.sum())

    @property
    def source(self) -> str:
        """The files of the list, or ``entities``."""
        return source_of(self.entities)


class BatchLists(NamedTuple):
    """What a batch is decoded with.

    Attributes:
        prepared: the options, and the list of all utterances.
        own: [B] the further list of each utterance; empty if none has one.
    """

    prepared: PreparedLists
    own: tuple[CompiledList | None, ...] = ()

    def of_utterances(self, batch_size: int) -> list[CompiledList | None]:
        """[B] the whole list of each utterance."""
        shared, own = self.prepared.shared, self.own or (None,) * batch_size
        if shared is None:
            return list(own)
        distinct = {id(each): each for each in own if each is not None}
        joined = {key: shared.joined(each) for key, each in distinct.items()}
        return [shared if each is None else joined[id(each)] for each in own]


class PreparedLists:
    """Options, and a list that is compiled for them. Nothing of it changes but what it remembers of utterances' own lists.

    Args:
        config: options of the strategy.
        vocabulary: the model's tokens.
        given: whether the list, which is still to come, was given in Python and is not in the config.
        before: others of the same model, whose search serves for the same options of decoding.

    Raises:
        ValueError: an option has a wrong value.
    """

    def __init__(
        self, config: BiasedBeamConfig, vocabulary: Vocabulary, given: bool = False, before: PreparedLists | None = None
    ) -> None:
        from nemo_bias.decoder.search import BiasedBeamSearch

        self.config = config
        self.vocabulary = vocabulary
        self.search: BiasedBeamSearch
        if before and (before.vocabulary, _search_options(before.config)) == (vocabulary, _search_options(config)):
            self.search = before.search
        else:
            self.search = BiasedBeamSearch(vocabulary, config, config.threads or None)
        self.listed: CompiledEntities | None = None  # the list of all utterances; None: none
        self.given = given
        self.announced = False  # whether the log has told of the list
        self._own: dict[str, CompiledList | None] = {}

    @property
    def shared(self) -> CompiledList | None:
        """The list of all utterances; None if there is nothing in it."""
        if self.listed is None or not (len(self.listed) or self.listed.compiled.suppressed):
            return None
        return self.listed.compiled

    @property
    def list_options(self) -> tuple[Any, ...]:
        """The options that a compiled list depends on."""
        return tuple(getattr(self.config, name) for name in COMPILED_WITH)

    def own_list(self, entities: Sequence[Any], place: str) -> CompiledList | None:
        """Compiles an utterance's own entities; None if there are none that the model can write.

        Args:
            entities: the manifest's items.
            place: where they stand, for messages.

        Raises:
            EntityListError: an item is not valid.
        """
        if not entities:
            return None
        key = repr(entities)
        if key not in (own := self._own):
            compiled, notes = _compiled(self.search, parse_entities(entities, place))
            _warn(notes)
            if len(own) >= REMEMBERED_LISTS:
                self._own = own = {}
            own[key] = compiled or None
        return own[key]

    def batch(self, entities: Sequence[tuple[list[Any], str]] | None) -> BatchLists:
        """The lists of a batch of utterances, which may have entities of their own, each with their place."""
        with _compiling:
            own = tuple(self.own_list(*of_utterance) for of_utterance in entities or ())
        return BatchLists(self, own if any(each is not None for each in own) else ())


_owner: ContextVar[ModelLists | None] = ContextVar("nemo_bias_owner", default=None)
_here: ContextVar[Mapping[int, PreparedLists]] = ContextVar("nemo_bias_lists_here", default={})  # noqa: B039 - never changed


class ModelLists:
    """The owner of one model's lists; its decoder and its adapters ask it.

    Args:
        vocabulary: gives the model's tokens.
        config: options of the strategy. Their list is read when it is needed, since NeMo also builds decoders that it never
            uses.
    """

    def __init__(self, vocabulary: Callable[[], Vocabulary], config: BiasedBeamConfig) -> None:
        self.vocabulary = vocabulary
        self._config = config
        self._given: EntityList | CompiledEntities | None = None
        self._current: PreparedLists | None = None

    @property
    def current(self) -> PreparedLists:
        """What the next batch of this thread is decoded with.

        Raises:
            EntityListError: the list of the config is broken.
            ValueError: an option has a wrong value.
        """
        here = _here.get().get(id(self))
        if here is not None:
            return here
        if self._current is None:
            with _compiling:
                if self._current is None:
                    self._current = self.plan(self._config, self._given)
        return self._current

    @property
    def config(self) -> BiasedBeamConfig:
        """The options."""
        return self._config

    @property
    def given(self) -> EntityList | CompiledEntities | None:
        """The list that was given in Python, and is not in the config."""
        return self._given

    @property
    def given_entities(self) -> EntityList | None:
        """Its entities."""
        return self._given.entities if isinstance(self._given, CompiledEntities) else self._given

    def plan(self, config: BiasedBeamConfig, given: EntityList | CompiledEntities | None = None) -> PreparedLists:
        """Reads, checks and compiles, and changes nothing.

        Args:
            config: options of the strategy.
            given: a list that is not in the config; None: that of the config.

        Raises:
            EntityListError: the list is broken.
            ValueError: an option has a wrong value, or the list was compiled for other tokens.
        """
        old = self._current
        with _compiling:
            prepared = PreparedLists(config, self.vocabulary(), given is not None, old)
            prepared.listed = self._configured(prepared) if given is None else self._compiled(prepared, given)
            if old is not None and (old.config, old.listed, old.given) == (config, prepared.listed, prepared.given):
                return old  # NeMo sets a decoding config anew to change other parts of it
            return prepared

    def use(self, prepared: PreparedLists) -> None:
        """Swaps."""
        self._config, self._given = prepared.config, prepared.listed if prepared.given else None
        self._current = prepared

    def use_later(self, config: BiasedBeamConfig, given: EntityList | CompiledEntities | None) -> None:
        """Swaps, and compiles only when a batch is to be decoded: for a model whose biasing is switched off."""
        self._config, self._given, self._current = config, given, None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """After this context everything is as it was before."""
        before = self._config, self._given, self._current
        try:
            yield
        finally:
            self._config, self._given, self._current = before

    @contextmanager
    def used_here(self, prepared: PreparedLists) -> Iterator[None]:
        """Within this context, this thread decodes with other lists than the rest."""
        token = _here.set({**_here.get(), id(self): prepared})
        try:
            yield
        finally:
            _here.reset(token)

    def _compiled(self, prepared: PreparedLists, given: EntityList | CompiledEntities) -> CompiledEntities:
        if isinstance(given, EntityList):
            return compile_for(prepared, given)
        if given.vocabulary != prepared.vocabulary:
            raise ValueError(
                f"the list of {given.source} was compiled for a model with other tokens; use compile_entities with this one"
            )
        if given.options != prepared.list_options:
            return compile_for(prepared, given.entities)
        return given

    def _configured(self, prepared: PreparedLists) -> CompiledEntities | None:
        config = prepared.config
        if not config.entity_file and not config.entities:
            return None
        origin = (
            config.entity_file,
            config.entity_format,
            _state_of(config.entity_file),
            repr(config.entities),
            prepared.list_options,
            prepared.vocabulary,
        )
        old = self._current.listed if self._current is not None else None
        if old is not None and old.origin is not None and _is_gone(old.origin, origin):  # the list stays
            origin = (*origin[:2], old.origin[2], *origin[3:])
            if old.origin != origin:
                return replace(compile_for(prepared, old.entities), origin=origin)
        if old is not None and old.origin == origin:
            return old
        lists = []
        if config.entity_file:
            lists.append(read_file(config.entity_file, config.entity_format))
        if config.entities:
            lists.append(parse_entities(config.entities, f"{STRATEGY}.entities"))
        entities = tuple(entity for each in lists for entity in each)
        notes = tuple(note for each in lists for note in each.notes)
        return replace(compile_for(prepared, EntityList(entities, notes)), origin=origin)


@contextmanager
def owned_by(lists: ModelLists | None) -> Iterator[None]:
    """Within this context, the decoders that NeMo builds are those of a model that has an owner of its lists already."""
    token = _owner.set(lists)
    try:
        yield
    finally:
        _owner.reset(token)


def is_changing(lists: ModelLists) -> bool:
    """Whether this thread is in a context in which they will be swapped."""
    return _owner.get() is lists


def owner(vocabulary: Callable[[], Vocabulary], config: BiasedBeamConfig) -> ModelLists:
    """The owner for a new decoder."""
    return _owner.get() or ModelLists(vocabulary, config)


def compile_for(prepared: PreparedLists, entities: EntityList) -> CompiledEntities:
    """Compiles a list for the tokens and options of a model, and logs what became of its entities.

    Raises:
        EntityListError: a pronunciation cannot be read.
    """
    compiled, notes = _compiled(prepared.search, entities, report=True)
    _warn(notes)
    return CompiledEntities(entities, compiled, prepared.vocabulary, prepared.list_options)


def _compiled(search: BiasedBeamSearch, entities: EntityList, report: bool = False) -> tuple[CompiledList, list[str]]:
    """The compiled list, and notes on entities that cannot be written; with `report` also on what was changed."""
    from nemo_bias.normalization import normalize_entities

    normalized = normalize_entities(entities, search.vocabulary.alphabet, search.options.language)
    names = [entity.text for entity in normalized.entities]
    compiled = search.compile(normalized.phrases, normalized.weights, names, normalized.entities)
    unwritten = {phrase for phrase, written in zip(compiled.phrases, compiled.written, strict=True) if not written}
    notes = [*normalized.unwritable, *(item.unsplittable for item in normalized.items if item.phrase in unwritten)]
    return compiled, [*notes, *normalized.notes] if report else notes


def _warn(notes: Sequence[str]) -> None:
    from nemo.utils import logging

    for note in notes[:SHOWN_NOTES]:
        logging.warning(f"nemo_bias: {note}")
    if len(notes) > SHOWN_NOTES:
        logging.warning(f"nemo_bias: and {len(notes) - SHOWN_NOTES} more notes; scripts/check_entities.py prints all")


def _search_options(config: BiasedBeamConfig) -> list[Any]:
    """The options that a search depends on."""
    return [*(getattr(config, each.name) for each in fields(DecodingOptions)), config.threads]


def _is_gone(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    """Whether the same list is wanted as before, from a file that cannot be read any more; see `ModelLists._configured`."""
    file, file_format, state, entities = now[:4]
    return file is not None and state is None and (file, file_format, entities) == (*before[:2], before[3])


def _state_of(path: str | None) -> tuple[int, int] | None:
    """What changes when a file is written; None if there is no file."""
    try:
        status = os.stat(path) if path else None
    except OSError:
        return None
    return None if status is None else (status.st_mtime_ns, status.st_size)
