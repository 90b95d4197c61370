"""What a model's biasing adapter attends to in an utterance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from nemo_bias.decoder.alignment import token_frames
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.evaluation.attention_plot import Attention, TimedWord
from nemo_bias.integration.decoding.api import set_entities
from nemo_bias.integration.decoding.model_lists import lists_of
from nemo_bias.integration.model import best_hypotheses, frame_seconds
from nemo_bias.integration.registration.patches import UnknownNeMoError
from nemo_bias.integration.switch import OFF_SWITCH, switched_off

if TYPE_CHECKING:
    from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter

MOST_ENTITIES = 12


def attention_of(
    model: Any,
    audio: str | Path,
    entities: str | Path | Iterable[str | Mapping[str, Any]],
    most_entities: int = MOST_ENTITIES,
) -> Attention:
    """Transcribes an utterance without and with the model's adapter, and reads what the adapter attended to.

    The text of both is NeMo's greedy decoding, so that they differ by the adapter alone. A subword's attention is the mean
    over the heads of the third stage, an entity's the sum over its subwords. The model's own way of decoding stays.

    Args:
        model: a NeMo CTC or hybrid model with one enabled biasing adapter.
        audio: path of the audio file.
        entities: path of an entity list, or the entities, as for `set_entities`.
        most_entities: how many entities to return: those with the highest attention in any frame.

    Raises:
        FileNotFoundError: there is no such audio file.
        RuntimeError: it cannot be read.
        TypeError: the model has no CTC decoder.
        ValueError: the model has no enabled biasing adapter or several, or the list is broken, or has no entity that the
            model can write.
    """
    if not Path(audio).is_file():
        raise FileNotFoundError(f"no audio file {audio}")
    soundfile.info(str(audio))  # a short error, unlike NeMo's
    if most_entities < 1:
        raise ValueError(f"most_entities is {most_entities}; it must be at least 1")
    adapter = _enabled_adapter(model)
    given = str(entities) if isinstance(entities, str | Path) else list(entities)
    if not given:
        raise ValueError("there is no entity list; give its path, or the entities")
    with _decoding_kept(model):
        set_entities(model, None, method="greedy", adapter=True)
        path_without = _greedy_path(model, audio)
        set_entities(model, given)
        prepared = lists_of(model).current
        compiled = prepared.shared
        if prepared.listed is None or compiled is None:
            listed = len(prepared.listed.entities) if prepared.listed else 0
            source = given if isinstance(given, str) else "the entity list"
            why = f"none of its {listed} entities can be written by this model" if listed else "it holds no entities"
            raise ValueError(f"{source}: {why}")
        path = _greedy_path(model, audio)
    found = adapter.found
    adapter.forget()
    if found is None or found.biasing is None:
        raise UnknownNeMoError("the encoder has not called the adapter")
    nothing = found.biasing.subword_log_probs[0, : len(path), :, 0].float().exp().mean(dim=1, keepdim=True).cpu().numpy()
    attention = found.biasing.entity_probabilities()[0, : len(path)].float().cpu().numpy()
    chosen = found.biasing.chosen[0].tolist()
    best = np.argsort(-attention.max(axis=0, initial=0), kind="stable")[:most_entities]
    frame = frame_seconds(model)
    words = timed_words(path, prepared.vocabulary, frame)
    text = f" {' '.join(word.text for word in words)} "
    return Attention(
        audio=Path(audio).name,
        frame_seconds=frame,
        entities=tuple(compiled.names[chosen[k]] for k in best),
        recognised=tuple(f" {compiled.phrases[chosen[k]]} " in text for k in best),
        probabilities=np.concatenate([nothing, attention[:, best]], axis=1),
        words=words,
        words_without=timed_words(path_without, prepared.vocabulary, frame),
    )


def timed_words(path: Sequence[int], vocabulary: Vocabulary, frame_seconds: float) -> tuple[TimedWord, ...]:
    """The words that a CTC path writes, with the times of their frames.

    Args:
        path: [T] the label of each frame.
        vocabulary: the model's tokens.
        frame_seconds: how long a frame lasts.
    """
    labels = np.asarray(path, np.int32)
    first = np.flatnonzero((labels != vocabulary.blank) & (np.diff(labels, prepend=vocabulary.blank) != 0))
    starts, ends = token_frames(labels, len(first), vocabulary.blank)
    words: list[tuple[str, int, int]] = []  # text, first and last frame
    fresh = True
    for token, start, end in zip(labels[first].tolist(), starts.tolist(), ends.tolist(), strict=True):
        fresh = fresh or bool(vocabulary.starts_word[token])
        text = vocabulary.text([token])
        if text and fresh:  # the space of a character model has no text: its frames belong to no word
            words.append((text, start, end))
            fresh = False
        elif text:
            words[-1] = (words[-1][0] + text, words[-1][1], end)
    return tuple(TimedWord(text, start * frame_seconds, (end + 1) * frame_seconds) for text, start, end in words)


def _enabled_adapter(model: Any) -> BiasingAdapter:
    from nemo_bias.integration.encoder.biasing_adapter import biasing_adapters, enabled_adapters

    if switched_off():
        raise ValueError(f"biasing is switched off by the environment variable {OFF_SWITCH}; unset it")
    adapters = enabled_adapters(model)
    if not biasing_adapters(model):
        raise ValueError("the model has no biasing adapter; load one with --adapter, or nemo_bias.load_adapter")
    if len(adapters) != 1:
        held = ", ".join(biasing_adapters(model))
        raise ValueError(
            f"{len(adapters)} of the model's biasing adapters ({held}) are enabled; enable one with set_enabled_adapters"
        )
    if adapters[0].contextual is None:
        raise ValueError("the model's biasing adapter has no contextual part, so it attends to nothing")
    return adapters[0]


def _greedy_path(model: Any, audio: str | Path) -> list[int]:
    """[T] the label of each frame."""
    hypotheses = best_hypotheses(model.transcribe([str(audio)], batch_size=1, return_hypotheses=True, verbose=False))
    if len(hypotheses) != 1:
        raise RuntimeError(f"NeMo has not transcribed {audio}; is it readable audio?")
    log_probs = hypotheses[0].y_sequence  # that is what NeMo puts there
    return log_probs.argmax(dim=-1).tolist()  # type: ignore[no-any-return]


@contextmanager
def _decoding_kept(model: Any) -> Iterator[None]:
    """Gives the model its own way of decoding, and its list, back at the end."""
    hybrid = hasattr(model, "ctc_decoding")
    config = (model.cfg.aux_ctc if hybrid else model.cfg).decoding.copy()
    current = model.cur_decoder if hybrid else None
    try:
        with lists_of(model).kept():
            yield
    finally:
        if hybrid:
            model.change_decoding_strategy(config, decoder_type="ctc", verbose=False)
            model.cur_decoder = current
        else:
            model.change_decoding_strategy(config, verbose=False)
