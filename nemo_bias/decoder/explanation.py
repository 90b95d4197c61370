"""Why an entity is in a transcript, or is not: its best arc, what that lacks, and what stands there instead."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.candidates import Candidates
from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.entity_list import CompiledList
from nemo_bias.decoder.evidence import token_path
from nemo_bias.decoder.frames import NEVER, UtteranceFrames, whole
from nemo_bias.decoder.probability import TERMS, UNINTELLIGIBLE, probability_of
from nemo_bias.decoder.spotter import find_arcs
from nemo_bias.decoder.transcript import Transcript
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.decoder.words import greedy_words

SHOWN_FORMS, SHOWN_TERMS = 4, 3
MOST_WEIGHT = 100.0  # a higher one would write the entity everywhere
SAME_FOR_ALL = ("constant", "list_size")  # terms that say nothing of one arc


@dataclass(frozen=True)
class Explanation:
    """What became of an entity in an utterance; `str` tells it in words.

    Attributes:
        entity: as the list's author wrote it.
        written: whether it is in the transcript.
        reason: why, or why not, in words.
        forms: what was looked for: the entity in the model's characters, and its variants.
        tokens: the fewest that write it.
        start: where it is, or fits best, in seconds; None if it was not looked for.
        end: the end of that.
        instead: what is written there without it.
        probability: of its best arc; None if there is no arc.
        weight: that the entity would need in the list to be written; None if that is no sensible one.
        against: terms of the evidence that weigh most against it, with what each adds to the log-odds.
        attention: the highest attention that an adapter paid to it in a frame, and when, in seconds; None without one.
    """

    entity: str
    written: bool
    reason: str
    forms: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    instead: str = ""
    probability: float | None = None
    weight: float | None = None
    against: tuple[tuple[str, float], ...] = ()
    attention: tuple[float, float] | None = None

    def __str__(self) -> str:
        parts = [f"{self.entity}: {'' if self.written else 'not '}written; {self.reason}"]
        if self.weight is not None and not self.written:
            parts.append(f"with the weight {self.weight:.3g} in the list it would be written")
        if self.against and not self.written:
            parts.append(f"against it: {', '.join(f'{name} {value:.1f}' for name, value in self.against)}")
        if self.attention is not None:
            highest, time = self.attention
            shown = f"was at most {highest:.2f}, at {time:.2f} s" if highest else "was none: other entities seemed nearer"
            parts.append(f"the adapter's attention to it {shown}")
        if self.forms:
            more = f", and {len(self.forms) - SHOWN_FORMS} more" if len(self.forms) > SHOWN_FORMS else ""
            parts.append(f"looked for as {' | '.join(self.forms[:SHOWN_FORMS])}{more}; tokens {' '.join(self.tokens)}")
        return "\n    ".join(parts)


def explanation_of(
    phrase: int,
    entities: CompiledList,
    found: Candidates,
    transcript: Transcript,
    vocabulary: Vocabulary,
    options: DecodingOptions,
    frame_seconds: float,
) -> Explanation:
    """Explains what became of an entity.

    Args:
        phrase: its position in the list.
        entities: the list.
        found: all arcs of the utterance that may be written.
        transcript: what was written.
        vocabulary: the model's tokens.
        options: how it was decoded.
        frame_seconds: how long a frame lasts.
    """
    frames = found.frames
    tokens = entities.shortest.of(phrase)
    told = Explanation(
        entity=entities.names[phrase],
        written=False,
        reason="the tokens of this model cannot write it",
        forms=tuple(form for form, own in zip(entities.forms, entities.phrase_of, strict=True) if own == phrase),
        tokens=tuple(vocabulary.pieces[token] for token in tokens),
    )
    spans = [span for span in transcript.spans if span.entity == entities.names[phrase]]
    if spans:
        span = max(spans, key=lambda each: each.probability or 0.0)
        told = _placed(told, span.start, span.end, frames, vocabulary, frame_seconds)
        how = f"{span.technique} at {_time(told)} with the probability {span.probability:.2f}"
        return replace(told, written=True, reason=f"{how}, {_instead(told)}", probability=span.probability)
    own = np.flatnonzero(found.phrase == phrase)
    if len(own):
        best = int(own[found.gain[own].argmax()])
        told = _placed(told, int(found.slots.start[best]), int(found.slots.end[best]), frames, vocabulary, frame_seconds)
        return _unlikely(told, best, float(entities.weights[phrase]), found, transcript, options)
    if not len(tokens):
        return told
    if found.certainty < UNINTELLIGIBLE:
        doubt = f"certainty {found.certainty:.2g}, below {UNINTELLIGIBLE:g}"
        return replace(told, reason=f"the recogniser is hardly sure of a word in this utterance ({doubt})")
    arcs = find_arcs(
        *(frames.log_probs, frames.best, whole(len(frames.best)), vocabulary.blank),
        *(options.token_margin, options.most_tokens, entities.automaton),
    )
    refused = np.flatnonzero(entities.phrase_of[arcs.phrase] == phrase)
    if len(refused):
        arc = int(refused[arcs.gap[refused].argmax()])
        told = _placed(told, int(arcs.start[arc]), int(arcs.end[arc]), frames, vocabulary, frame_seconds)
        return replace(told, reason=f"at {_time(told)}, {_instead(told)}, it would not stand as a word of its own")
    return _far(told, tokens, frames, vocabulary, options, frame_seconds)


def _unlikely(
    told: Explanation,
    arc: int,
    weight: float,
    found: Candidates,
    transcript: Transcript,
    options: DecodingOptions,
) -> Explanation:
    """Of an entity whose arcs were not taken."""
    log_odds = float(found.log_odds[arc])
    probability = probability_of(log_odds)
    told = replace(told, probability=probability)
    start, end = int(found.slots.start[arc]), int(found.slots.end[arc])
    place = f"at {_time(told)}, {_instead(told)}, its probability is {probability:.3g}"
    asked_for = float(found.asked_for[arc])
    missing = asked_for - log_odds
    if missing <= 0:
        rivals = dict.fromkeys(span.entity for span in transcript.spans if span.start <= end and span.end >= start)
        likelier = f"{' and '.join(rivals)} is likelier there" if rivals else "the text without it fits its phones better"
        return replace(told, reason=f"{place}, but {likelier}")
    shares = dict(zip(TERMS, found.shares[arc].tolist(), strict=True))
    lowest = sorted((name for name in shares if name not in SAME_FOR_ALL), key=shares.__getitem__)[:SHOWN_TERMS]
    needed = weight * math.exp(min(missing, 700.0))
    return replace(
        told,
        reason=f"{place}, below the {probability_of(asked_for):.3g} that is asked for there (min_probability "
        f"{options.min_probability:g}, at a risk of {found.risk[arc]:.2g} to lose right words)",
        weight=needed if 0 < needed <= MOST_WEIGHT else None,
        against=tuple((name, shares[name]) for name in lowest if shares[name] < 0),
    )


def _far(
    told: Explanation,
    tokens: NDArray[np.int32],
    frames: UtteranceFrames,
    vocabulary: Vocabulary,
    options: DecodingOptions,
    frame_seconds: float,
) -> Explanation:
    """Of an entity that has no arc: where its tokens fit best, and what keeps them from being one."""
    log_probs, best = frames.log_probs, frames.best
    start, end = best_place(log_probs, best, tokens, vocabulary.blank)
    if start < 0:
        return replace(told, reason=f"the utterance has {len(best)} frames, fewer than the entity has tokens")
    told = _placed(told, start, end, frames, vocabulary, frame_seconds)
    path = token_path(log_probs, tokens, start, end, vocabulary.blank)
    gaps = best[start : end + 1] - log_probs[np.arange(start, end + 1), path]
    worst = int(gaps.argmax())
    token = "the blank" if path[worst] == vocabulary.blank else f"the token {vocabulary.pieces[path[worst]]}"
    where = (
        f"where it fits best, at {_time(told)}, {_instead(told)}, {token} lies {gaps[worst]:.1f} nats below the frame's best"
    )
    if gaps[worst] > options.token_margin:
        reason = f"{where}, more than token_margin {options.token_margin:g}"
    else:
        reason = f"{where}, and all its frames lose {gaps.sum():.1f} nats, too much to go on"
    listens = options.pronunciation_source is not None and options.lookup_distance is not None
    sound = "; nor does it sound enough like unsure words to be looked up" if listens else ""
    return replace(told, reason=reason + sound)


def _placed(
    told: Explanation, start: int, end: int, frames: UtteranceFrames, vocabulary: Vocabulary, frame_seconds: float
) -> Explanation:
    """With its place, and the words there."""
    words = greedy_words(frames.labels, whole(len(frames.labels)), vocabulary.blank, vocabulary.boundaries)
    there = np.flatnonzero((words.token_end >= start) & (words.token_start <= end))
    instead = ""
    if len(there):
        first = words.first_token[np.searchsorted(words.first_token, there[0], "right") - 1]
        last = words.first_token[np.searchsorted(words.first_token, there[-1], "right")]
        instead = vocabulary.text(words.token[first:last].tolist())
    return replace(told, start=start * frame_seconds, end=(end + 1) * frame_seconds, instead=instead)


def _time(told: Explanation) -> str:
    return f"{told.start:.2f}-{told.end:.2f} s"


def _instead(told: Explanation) -> str:
    return f'where without the list "{told.instead}" stands' if told.instead else "where without the list nothing stands"


@njit
def best_place(log_probs, best, tokens, blank):  # type: ignore[no-untyped-def]
    """Where in an utterance a token sequence loses the fewest nats against the best labels.

    Args:
        log_probs: [T, V] natural logarithms.
        best: [T] the highest of each frame.
        tokens: [n] ids.
        blank: id of the blank.

    Returns:
        The frames in which its first and its last token begin; -1 and -1 if no path writes it.
    """
    states = 2 * len(tokens) - 1  # state 2k: in token k, 2k + 1: in the blank after it
    score, following = np.full(states, NEVER, np.float64), np.empty(states, np.float64)
    began, began_following = np.full(states, -1), np.full(states, -1)
    least, start, end = np.float64(NEVER), -1, -1
    for t in range(len(log_probs)):
        for s in range(states):
            reach, begin = score[s], began[s]
            if s == 0 and reach < 0:
                reach, begin = 0.0, t
            if s > 0 and score[s - 1] > reach:
                reach, begin = score[s - 1], began[s - 1]
            if s > 1 and s % 2 == 0 and tokens[s >> 1] != tokens[(s >> 1) - 1] and score[s - 2] > reach:
                reach, begin = score[s - 2], began[s - 2]
            label = blank if s % 2 else tokens[s >> 1]
            following[s], began_following[s] = max(np.float64(NEVER), reach + log_probs[t, label] - best[t]), begin
        score, following = following, score
        began, began_following = began_following, began
        if score[states - 1] > least:
            least, start, end = score[states - 1], began[states - 1], t
    return start, end
