"""A word language model in a recogniser's spelling, and how it scores the words that a search writes.

A word counts when it ends: ``weight * (ln P(word | words before) + PER_LETTER * letters) + bonus``. At the end,
``weight * ln P(</s> | words)`` counts, too. A word that has only begun counts as the best word that it can become, by its
unigram (`WordTrie.best`), so that prefixes inside and between words compete fairly; when it ends, its own score takes the
place of that. (`PER_LETTER` is ours: the more letters a word of the model explains, the less they are there by chance. A
word that the model does not know explains none. Without it, letters get lost, as short words are the common ones.)

*Doubt.* All of that is multiplied by how much the recogniser doubts what it writes by itself in this utterance
(`nemo_bias.decoder.frames.doubt`): where it is sure, the model has nothing to mend.

*Words the model does not know* are of a class whose unigram is set by a boost: ``ln P(class) = boost - ln(words of the
model)``, boost 0 making them as likely as a word on average. After a context, a word of a class has the probability of
``<unk>`` there, times ``P(class) / P(<unk>)``, and the words after it see ``<unk>``. So have words of a list that the model
takes for less likely than their class. The file is not changed.

*Spelling.* Letters are compared; marks of punctuation are not. Upper and lower case are one, unless both the recogniser and
the model write both. So are all apostrophes; where one of the two writes none, they are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.lm_file import LMFile
from nemo_bias.decoder.score_cache import ScoreCache, cached_score
from nemo_bias.decoder.vocabulary import APOSTROPHE, COMBINING, LETTER, UNSPACED, WORD_START, Vocabulary, character_class
from nemo_bias.decoder.word_trie import END, ROOT, UNKNOWN, WordTrie, walk, word_trie

LN10 = math.log(10)
PER_LETTER = 0.5  # nats, for each letter of a word that the model knows
MOST_ENTRIES = 1 << 22  # of a cache: 128 MiB; the next utterance then starts an empty one
FEW = 0.5  # share of words, below which a language model is taken not to fit
ENOUGH_WORDS = 200  # that were written, to tell
EXAMPLES = 5


class LanguageScores(NamedTuple):
    """A language model, for compiled code.

    Attributes:
        on: whether there is one; if not, nothing else counts.
        weight: of what it says.
        bonus: for each word, nats.
        trie: its words.
        code: [letters of all tokens].
        offset: [V + 1]; the letters of token ``v`` are ``code[offset[v]:offset[v + 1]]``.
        starts: [V] whether the word before a token ends with it.
        table: of the `ScoreCache`.
    """

    on: bool
    weight: float
    bonus: float
    trie: WordTrie
    code: NDArray[np.uint32]
    offset: NDArray[np.int32]
    starts: NDArray[np.bool_]
    table: NDArray[np.uint64]


class Speller(NamedTuple):
    """How words are compared.

    Attributes:
        cased: whether case matters.
        apostrophes: whether apostrophes do.
    """

    cased: bool
    apostrophes: bool

    def key(self, word: str) -> str:
        """What of a word is compared."""
        if not self.cased:
            word = word.lower()
        kinds = ((character_class(c), c) for c in word)
        return "".join(
            "'" if kind == APOSTROPHE else c
            for kind, c in kinds
            if kind in (LETTER, COMBINING, UNSPACED) or (kind == APOSTROPHE and self.apostrophes)
        )


class LanguageModel:
    """Scores words; any number of threads and utterances share one.

    Args:
        file: of `read_lm`.
        vocabulary: the recogniser's tokens.
        weight: of what it says, if the recogniser is in doubt of every token.
        bonus: for each word, nats; likewise.
        unknown_boost: of the class of words that the model does not know.

    Raises:
        ValueError: the recogniser's tokens hold parts of several words.
    """

    def __init__(self, file: LMFile, vocabulary: Vocabulary, weight: float, bonus: float, unknown_boost: float) -> None:
        across = next((p for p in vocabulary.pieces if WORD_START in p[1:]), None)
        if across is not None:
            raise ValueError(f"lm_file cannot be used: the recogniser's token {across!r} holds parts of several words")
        self.file = file
        self.vocabulary = vocabulary
        self._model = file.model
        import kenlm

        self._new_state = kenlm.State
        start, none = kenlm.State(), kenlm.State()
        self._model.BeginSentenceWrite(start)
        self._model.NullContextWrite(none)
        self.start = start
        signs = {c for word in file.words for c in word}
        cased = vocabulary.writes_both_cases and any(map(str.isupper, signs)) and any(map(str.islower, signs))
        writes_apostrophes = [any(character_class(c) == APOSTROPHE for c in each) for each in (vocabulary.alphabet, signs)]
        self.speller = Speller(cased, all(writes_apostrophes))
        self._unknown = self._model.BaseScore(none, "<unk>", kenlm.State()) * LN10
        self.chance = -math.log(len(file.words))
        likeliest: dict[str, tuple[float, str]] = {}
        for word in file.words:
            key, unigram = self.speller.key(word), self._model.BaseScore(none, word, kenlm.State()) * LN10
            if key and unigram > likeliest.get(key, (-math.inf, ""))[0]:
                likeliest[key] = unigram, word
        keys = sorted(likeliest)
        self._numbers = {key: k + 2 for k, key in enumerate(keys)}
        self._words = ["<unk>", "</s>", *(likeliest[key][1] for key in keys)]
        self._unigrams = np.array([self.chance + unknown_boost, -math.inf, *(likeliest[key][0] for key in keys)], np.float32)
        self._spelled = np.array([0.0, 0.0, *(PER_LETTER * len(key) for key in keys)], np.float32)
        pieces = ["" if t == vocabulary.blank else self.speller.key(p) for t, p in enumerate((*vocabulary.pieces, ""))]
        pieces = pieces[: vocabulary.size]
        offset = np.zeros(vocabulary.size + 1, np.int32)
        offset[1:] = np.cumsum([len(piece) for piece in pieces])
        code = np.frombuffer("".join(pieces).encode("utf-32-le"), np.uint32).copy()  # writable, as in NO_SCORES
        trie = word_trie(keys, self._unigrams[2:] + self._spelled[2:], float(self._unigrams[UNKNOWN]))
        self._scores = LanguageScores(
            *(True, float(weight), float(bonus), trie, code, offset, vocabulary.starts_word, np.zeros((0, 2), np.uint64))
        )
        self._cache = ScoreCache(self._ask, start)
        self._seen = self._known = 0
        self._examples: dict[str, None] = {}

    def cache(self) -> ScoreCache:
        """The cache for an utterance; the numbers of its states hold in it alone."""
        if self._cache.entries > MOST_ENTRIES:
            self._cache = ScoreCache(self._ask, self.start)
        return self._cache

    def scores(self, cache: ScoreCache, doubt: float) -> LanguageScores:
        """For compiled code, with what is in a cache by now; `doubt` is the recogniser's, of this utterance."""
        own = self._scores
        return own._replace(weight=own.weight * doubt, bonus=own.bonus * doubt, table=cache.table)

    def number(self, word: str) -> int:
        """The number of a word; `UNKNOWN` if the model does not know it."""
        return self._numbers.get(self.speller.key(word), UNKNOWN)

    def score(self, state: Any, word: int, unigram: float | None = None) -> tuple[float, Any]:
        """What the model says of a word.

        Args:
            state: of the model.
            word: number of the word.
            unigram: log-probability of the class that the word is in, nats; a word that the model takes for likelier than
                that counts as itself. None: the word is not listed.

        Returns:
            Log-probability in nats, and the state that follows.
        """
        out = self._new_state()
        if word != UNKNOWN and (unigram is None or self._unigrams[word] >= unigram):
            return self._model.BaseScore(state, self._words[word], out) * LN10, out
        raised = (float(self._unigrams[UNKNOWN]) if unigram is None else unigram) - self._unknown
        return self._model.BaseScore(state, "<unk>", out) * LN10 + raised, out

    def unwritable(self) -> str | None:
        """What to tell a user whose recogniser cannot write most of the model's words; None if it can."""
        letters = set(self.speller.key("".join(sorted(self.vocabulary.alphabet))))
        foreign = [word for word in self._words[2:] if not letters.issuperset(self.speller.key(word))]
        share = 1 - len(foreign) / max(1, len(self._words) - 2)
        if share >= FEW:
            return None
        return (
            f"lm_file {self.file.path}: the recogniser can write only {share:.0%} of its words, and not "
            f"{', '.join(map(repr, foreign[:EXAMPLES]))}; is it a model of another language or alphabet?"
        )

    def unfamiliar(self, texts: Iterable[str]) -> str | None:
        """What to tell a user, once, if the model knows few of the words that the recogniser writes by itself.

        Args:
            texts: what it wrote without the model.
        """
        if self._seen >= ENOUGH_WORDS:
            return None
        for word in (word for text in texts for word in text.split()):
            if self.speller.key(word):
                self._seen += 1
                self._known += self.number(word) != UNKNOWN
                if self.number(word) == UNKNOWN and len(self._examples) < EXAMPLES:
                    self._examples[word] = None
        if self._seen < ENOUGH_WORDS or self._known >= FEW * self._seen:
            return None
        return (
            f"lm_file {self.file.path} knows only {self._known / self._seen:.0%} of the first {self._seen} words that the "
            f"recogniser wrote, and not {', '.join(map(repr, self._examples))}; is it of another language or kind of text?"
        )

    def _ask(self, state: Any, word: int) -> tuple[float, Any]:
        score, following = self.score(state, word)
        return score + float(self._spelled[word]), following


@njit
def follow(scores, node, token):  # type: ignore[no-untyped-def]
    """The trie node to which the letters of a token lead from a node."""
    return walk(scores.trie, node, scores.code[scores.offset[token] : scores.offset[token + 1]])


@njit(inline="always")
def foreseen(scores, node):  # type: ignore[no-untyped-def]
    """What a word that has only begun counts, in nats; nothing before its first letter."""
    return scores.weight * scores.trie.best[node] + scores.bonus if node != ROOT else 0.0


@njit
def ended(scores, context, node):  # type: ignore[no-untyped-def]
    """What a word counts that ends at a trie node, in nats (NaN: ask for it), and the context after it."""
    if node == ROOT:
        return 0.0, context
    score, following = cached_score(scores.table, context, scores.trie.word[node])
    return scores.weight * score + scores.bonus, following


@njit
def finished(scores, context):  # type: ignore[no-untyped-def]
    """What the end of the sentence counts after a context, in nats (NaN: ask for it)."""
    return scores.weight * cached_score(scores.table, context, END)[0]


def _no_scores() -> LanguageScores:
    trie = word_trie([], np.zeros(0, np.float32), 0.0)
    none = np.zeros(0, np.uint32)
    return LanguageScores(
        *(False, 0.0, 0.0, trie, none, np.zeros(1, np.int32), np.zeros(0, np.bool_), np.zeros((0, 2), np.uint64))
    )


NO_SCORES = _no_scores()  # stands for no language model
