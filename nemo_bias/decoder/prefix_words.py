"""Where the words of the prefixes of a beam stand in a language model."""

from __future__ import annotations

import numpy as np

from nemo_bias.compiled import njit
from nemo_bias.decoder.language_model import ended, finished, follow, foreseen
from nemo_bias.decoder.prefix_beam import AFTER, CONTEXT, ENDED, FORESEEN, SAID, WORD
from nemo_bias.decoder.word_trie import END, ROOT


@njit
def any_starts(starts, tokens):  # type: ignore[no-untyped-def]
    """Whether one of some tokens starts a word."""
    found = False
    for token in tokens:
        found = found or starts[token]
    return found


@njit
def end_words(beam, scores, missing):  # type: ignore[no-untyped-def]
    """Notes what each prefix counts if its last word ends; returns how many scores are missing for that."""
    count = 0
    for i in range(beam.size[0]):
        if not np.isnan(beam.reals[i, ENDED]):
            continue
        score, beam.ints[i, AFTER] = ended(scores, beam.ints[i, CONTEXT], beam.ints[i, WORD])
        beam.reals[i, ENDED] = beam.reals[i, SAID] + score
        if np.isnan(score):
            missing[count, 0], missing[count, 1] = beam.ints[i, CONTEXT], scores.trie.word[beam.ints[i, WORD]]
            count += 1
    return count


@njit
def end_sentences(beam, scores, missing):  # type: ignore[no-untyped-def]
    """How many scores are missing to end all sentences."""
    count = end_words(beam, scores, missing)
    if count == 0:
        for i in range(beam.size[0]):
            if np.isnan(finished(scores, beam.ints[i, AFTER])):
                missing[count, 0], missing[count, 1] = beam.ints[i, AFTER], END
                count += 1
    return count


@njit
def before_word(beam, i, token, scores):  # type: ignore[no-untyped-def]
    """Of a prefix with one more token: what its words before the last count, their context, the node of the last word."""
    if scores.starts[token]:
        return beam.reals[i, ENDED], beam.ints[i, AFTER], follow(scores, ROOT, token)
    return beam.reals[i, SAID], beam.ints[i, CONTEXT], follow(scores, beam.ints[i, WORD], token)


@njit(inline="always")
def future_of(context, node, settings):  # type: ignore[no-untyped-def]
    """A number, not 0, of all prefixes that the language model goes on from in the same way; 0 if they shall not be one."""
    return ((np.uint64(context) << np.uint64(32)) | np.uint64(node)) + np.uint64(1) if settings.recombine else np.uint64(0)


@njit
def most_said(beam, i, scores):  # type: ignore[no-untyped-def]
    """The most that the language model can add for a prefix with one more token: `WordTrie.best` never rises in a word."""
    first_letter = max(0.0, scores.weight * scores.trie.best[ROOT] + scores.bonus)
    most = beam.reals[i, FORESEEN] + (first_letter if beam.ints[i, WORD] == ROOT else 0.0)
    return most if np.isnan(beam.reals[i, ENDED]) else max(most, beam.reals[i, ENDED] + first_letter)


@njit
def note_word(beam, i, token, following, c, scores):  # type: ignore[no-untyped-def]
    """Notes in row `c` of the next beam, which extends prefix `i`, where its words stand."""
    before, context, node = before_word(beam, i, token, scores)
    following.reals[c, SAID], following.ints[c, CONTEXT], following.ints[c, WORD] = before, context, node
    following.reals[c, FORESEEN] = before + foreseen(scores, node)
    following.reals[c, ENDED], following.ints[c, AFTER] = (before, context) if node == ROOT else (np.nan, 0)
