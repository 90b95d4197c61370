"""Why a NeMo model writes an entity in an utterance, or does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_bias.decoder.explanation import Explanation, explanation_of
from nemo_bias.entities import Entity, EntityList
from nemo_bias.integration.decoding.config import STRATEGY
from nemo_bias.integration.decoding.model_lists import get_ready, in_use
from nemo_bias.integration.decoding.strategy import Decoded, seeing
from nemo_bias.integration.decoding.transcription import transcribe_items
from nemo_bias.integration.model import frame_seconds
from nemo_bias.messages import suggestion
from nemo_bias.normalization import normalize_entities

if TYPE_CHECKING:
    from nemo_bias.decoder.entity_list import CompiledList
    from nemo_bias.integration.decoding.lists import PreparedLists


def explain(model: Any, audio: str | Path, entities: str | Sequence[str]) -> list[Explanation]:
    """Transcribes an utterance and tells what became of entities of the list in use; print what it returns.

    Args:
        model: a NeMo model that decodes with `biased_beam`, method ``arcs``.
        audio: path of the audio file.
        entities: the entity, or several, as the list has them.

    Raises:
        FileNotFoundError: there is no such audio file.
        ValueError: it is no audio, or the model decodes otherwise.
    """
    names = [entities] if isinstance(entities, str) else list(entities)
    return explain_item(model, {"audio_filepath": str(audio)}, names)


def check_explainable(model: Any) -> PreparedLists:
    """What a model decodes with, if that can be explained.

    Raises:
        ValueError: it cannot.
    """
    prepared = in_use(model)
    if prepared is None:
        raise ValueError(
            f"the model does not decode with {STRATEGY}, so that no list is in use and nothing can be explained; call "
            f"set_entities, or set strategy={STRATEGY}"
        )
    if prepared.config.method != "arcs":
        raise ValueError(f"method is {prepared.config.method}; only what method=arcs does can be explained")
    return prepared


def explain_item(model: Any, item: Mapping[str, Any], names: Sequence[str], folder: str | Path = ".") -> list[Explanation]:
    """As `explain`, for an item of a manifest, which may have entities of its own.

    Args:
        model: a NeMo model.
        item: has `audio_filepath`, as for `transcribe_items`.
        names: of entities.
        folder: what a relative audio path is relative to.

    Raises:
        EntityListError: the entities of the item are broken.
        FileNotFoundError: there is no such audio file.
        ValueError: it is no audio, or the model decodes otherwise.
    """
    prepared = check_explainable(model)
    get_ready(model)
    with seeing() as seen:
        transcribe_items(model, [item], folder, batch_size=1)
    if not seen or not seen[0].entities:
        listed = () if prepared.listed is None else prepared.listed.entities
        return [_unlisted(name, listed, prepared.vocabulary.alphabet, prepared.config.language) for name in names]
    return _explained(model, seen[0], seen[0].entities, names)


def _explained(model: Any, decoded: Decoded, entities: CompiledList, names: Sequence[str]) -> list[Explanation]:
    prepared, search = decoded.prepared, decoded.prepared.search
    alphabet, code = prepared.vocabulary.alphabet, prepared.config.language
    frame = frame_seconds(model)
    found = search.evidence(decoded.log_probs, entities, decoded.plain, decoded.phones).found
    listed = (*(prepared.listed.entities if prepared.listed else ()), *map(Entity, entities.names))
    told = []
    for name in names:
        position = _position(name, entities, alphabet, code)
        if position is None:
            told.append(_unlisted(name, listed, alphabet, code))
            continue
        own = position, entities, found, decoded.transcript
        each = explanation_of(*own, search.vocabulary, search.options, frame)
        of_adapter = list(dict.fromkeys(entities.phrases)).index(entities.phrases[position])  # it has each phrase once
        told.append(replace(each, attention=_attention(model, of_adapter, frame)))
    return told


def _position(name: str, entities: CompiledList, alphabet: frozenset[str], code: str) -> int | None:
    """Which of the list's phrases is meant, by how it is written there or in the model's characters."""
    if name in entities.names:
        return entities.names.index(name)
    phrases = normalize_entities(EntityList((Entity(name),)), alphabet, code).phrases
    return entities.phrases.index(phrases[0]) if phrases and phrases[0] in entities.phrases else None


def _unlisted(name: str, listed: Sequence[Entity] | EntityList, alphabet: frozenset[str], code: str) -> Explanation:
    """Of an entity that the decoder does not look for."""
    own = [entity for entity in listed if entity.text.casefold() == name.casefold()]
    if own and own[0].weight <= 0:
        means = "below 0, a phrase is kept out of the text" if own[0].weight else "it is switched off"
        reason = f"its weight is {own[0].weight:g}: {means}"
    elif own and (notes := normalize_entities(EntityList((own[0],)), alphabet, code).unwritable):
        reason = notes[0]
    else:
        meant = suggestion(name, (entity.text for entity in listed))
        count = len({entity.text for entity in listed})
        reason = f"it is not in the list of {count} phrases{meant}" if count else "there is no list in use"
    return Explanation(name, False, reason)


def _attention(model: Any, position: int, frame_seconds: float) -> tuple[float, float] | None:
    """The highest attention of the adapter to one of its entities in the utterance that it has just heard, and when."""
    from nemo_bias.integration.encoder.biasing_adapter import enabled_adapters

    highest = None
    for adapter in enabled_adapters(model):
        found = adapter.found
        if found is None or found.biasing is None:
            continue
        chosen = found.biasing.chosen[0].tolist()
        attention = (0.0, 0.0)
        if position in chosen:
            probabilities = found.biasing.entity_probabilities()[0, :, chosen.index(position)].float().cpu()
            attention = (float(probabilities.max()), int(probabilities.argmax()) * frame_seconds)
        highest = max(highest or attention, attention)
    return highest
