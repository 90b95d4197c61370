"""Entity lists for training: drawn anew for every batch, from the transcripts themselves.

With a fixed list the adapter would learn the list. So every batch gets one of its own: phrases that are spoken in it, and
distractors, which are phrases of other transcripts. Each utterance sees all of them, but some of its own phrases are kept
from it, sometimes all, so that the adapter also learns to do nothing; and the lists' lengths vary.

Phrases are token sequences here, since transcripts arrive as tokens.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nemo_bias.adapter.config import AdapterTrainingConfig
from nemo_bias.adapter.guide import Mention, Word, words_of
from nemo_bias.decoder.vocabulary import Vocabulary

Phrase = tuple[str, ...]
PHRASE_WORDS = (1, 2, 3)  # how long a phrase drawn from a transcript is ...
PHRASE_ODDS = (7, 3, 1)  # ... and how often
SHORTEST_WORD = 4  # letters of the word that makes a phrase worth listing
POOLED_PAIR_EVERY = 6  # of so many words of a transcript, one pair becomes a distractor


@dataclass(frozen=True)
class TrainingList:
    """The entities of one batch: M token sequences.

    Attributes:
        entities: their tokens.
        offered: [B, M] which of them each utterance's list holds.
        mentions: of each utterance, where offered entities are spoken.
    """

    entities: tuple[tuple[int, ...], ...]
    offered: NDArray[np.bool_]
    mentions: tuple[tuple[Mention, ...], ...]

    @property
    def spoken(self) -> NDArray[np.bool_]:
        """[B, M] which offered entities are spoken in an utterance."""
        spoken = np.zeros_like(self.offered)
        for row, mentions in zip(spoken, self.mentions, strict=True):
            row[[mention.entity for mention in mentions]] = True
        return spoken


class TrainingLists:
    """Draws the lists.

    Args:
        config: how.
        vocabulary: the recogniser's tokens.
        marked: phrases that transcripts are known to hold, such as the `entities` of a manifest; they are preferred.
        seed: differs between the processes of a distributed training.
    """

    def __init__(
        self, config: AdapterTrainingConfig, vocabulary: Vocabulary, marked: Iterable[str] = (), seed: int = 0
    ) -> None:
        self.config = config
        self.vocabulary = vocabulary
        self._draw = random.Random(f"{config.seed}/{seed}")
        self._counts: Counter[str] = Counter()
        self._common: set[str] = set()
        self._pool: dict[Phrase, tuple[int, ...]] = {}
        self._phrases: list[Phrase] = []
        self._marked: dict[str, dict[Phrase, None]] = {}  # by first word; dicts keep their order, sets do not
        for phrase in marked:
            words = tuple(phrase.split())
            if words:
                self._marked.setdefault(words[0], {})[words] = None

    @property
    def ready(self) -> bool:
        """Whether there are phrases to draw distractors from."""
        return bool(self._phrases)

    def learn(self, transcripts: Iterable[Sequence[int]]) -> None:
        """Takes transcripts into the corpus that distractors and word frequencies come from.

        A corpus without a rare word gives its common ones.
        """
        corpus = [(transcript, words_of(transcript, self.vocabulary)) for transcript in transcripts]
        self._counts.update(word.text for _, words in corpus for word in words)
        self._common = {word for word, _ in self._counts.most_common(self.config.common_words)}
        for transcript, words in corpus:
            self._pool_phrases(transcript, words, self._marked_in(words) + self._pooled_in(words))
        if not self._phrases:
            for transcript, words in corpus:
                self._pool_phrases(transcript, words, [(k, k + 1) for k in range(len(words))])

    def _pool_phrases(self, transcript: Sequence[int], words: Sequence[Word], places: Iterable[tuple[int, int]]) -> None:
        for first, end in places:
            phrase = tuple(word.text for word in words[first:end])
            if phrase not in self._pool:
                self._pool[phrase] = tuple(transcript[words[first].first : words[end - 1].end])
                self._phrases.append(phrase)

    def draw(self, transcripts: Sequence[Sequence[int]]) -> TrainingList:
        """Draws the list of a batch.

        Args:
            transcripts: token ids of each utterance; `learn` must have seen some transcripts before.
        """
        config, draw = self.config, self._draw
        words = [words_of(transcript, self.vocabulary) for transcript in transcripts]
        listed: dict[Phrase, tuple[int, ...]] = {}
        for transcript, own in zip(transcripts, words, strict=True):
            for first, end in self._spoken_in(own):
                phrase = tuple(word.text for word in own[first:end])
                listed.setdefault(phrase, tuple(transcript[own[first].first : own[end - 1].end]))
        self._add_distractors(
            listed, draw.randint(config.fewest_entities, max(config.fewest_entities, config.most_entities))
        )
        offered = np.ones((len(words), len(listed)), np.bool_)
        mentions = []
        for row, found in zip(offered, _mentions(words, listed), strict=True):
            spoken = sorted({mention.entity for mention in found})
            if draw.random() < 0.5:
                share = draw.random()
                row[[m for m in range(len(row)) if draw.random() > share and m not in spoken]] = False
            empty = draw.random() < config.empty_rate
            row[[m for m in spoken if empty or draw.random() < config.drop_rate]] = False
            mentions.append(tuple(mention for mention in found if row[mention.entity]))
        return TrainingList(tuple(listed.values()), offered, tuple(mentions))

    def everything(self, transcripts: Sequence[Sequence[int]], size: int) -> TrainingList:
        """The list of a validation batch: all marked phrases and rare words of its transcripts, offered to all, and
        distractors until it has `size` entities.
        """
        words = [words_of(transcript, self.vocabulary) for transcript in transcripts]
        listed: dict[Phrase, tuple[int, ...]] = {}
        for transcript, own in zip(transcripts, words, strict=True):
            for first, end in self._marked_in(own) or [(k, k + 1) for k in self._rare(own)]:
                phrase = tuple(word.text for word in own[first:end])
                listed.setdefault(phrase, tuple(transcript[own[first].first : own[end - 1].end]))
        self._add_distractors(listed, size)
        offered = np.ones((len(words), len(listed)), np.bool_)
        return TrainingList(tuple(listed.values()), offered, tuple(tuple(found) for found in _mentions(words, listed)))

    def _add_distractors(self, listed: dict[Phrase, tuple[int, ...]], size: int) -> None:
        for _ in range(2 * size):  # a small corpus may not have enough
            if len(listed) >= size or not self._phrases:
                break
            phrase = self._draw.choice(self._phrases)
            listed.setdefault(phrase, self._pool[phrase])

    def _rare(self, words: Sequence[Word]) -> list[int]:
        return [k for k, word in enumerate(words) if len(word.text) >= SHORTEST_WORD and word.text not in self._common]

    def _marked_in(self, words: Sequence[Word]) -> list[tuple[int, int]]:
        return [
            (k, k + len(phrase))
            for k, word in enumerate(words)
            for phrase in self._marked.get(word.text, ())
            if tuple(w.text for w in words[k : k + len(phrase)]) == phrase
        ]

    def _pooled_in(self, words: Sequence[Word]) -> list[tuple[int, int]]:
        pairs = [self._draw.randrange(len(words) - 1) for _ in range(len(words) // POOLED_PAIR_EVERY)]
        return [(k, k + 1) for k in self._rare(words)] + [(k, k + 2) for k in pairs]

    def _spoken_in(self, words: Sequence[Word]) -> list[tuple[int, int]]:
        """Some phrases of a transcript that do not overlap: marked ones, and ones around rare words."""
        candidates = self._marked_in(words)
        rare = self._rare(words)
        for k in self._draw.sample(rare, min(len(rare), self.config.most_spoken)):
            length = self._draw.choices(PHRASE_WORDS, PHRASE_ODDS)[0]
            first = self._draw.randint(max(0, k - length + 1), k)
            candidates.append((first, min(len(words), first + length)))
        self._draw.shuffle(candidates)
        chosen: list[tuple[int, int]] = []
        for first, end in candidates:
            if all(end <= other_first or first >= other_end for other_first, other_end in chosen):
                chosen.append((first, end))
        return chosen[: self._draw.randint(0, self.config.most_spoken)]


def _mentions(texts: Sequence[Sequence[Word]], listed: Iterable[Phrase]) -> list[list[Mention]]:
    """Where listed phrases are spoken in each text."""
    by_word: dict[str, list[tuple[int, Phrase]]] = {}
    for m, phrase in enumerate(listed):
        by_word.setdefault(phrase[0], []).append((m, phrase))
    return [
        [
            Mention(m, words[k].first, words[k + len(phrase) - 1].end)
            for k, word in enumerate(words)
            for m, phrase in by_word.get(word.text, ())
            if tuple(w.text for w in words[k : k + len(phrase)]) == phrase
        ]
        for words in texts
    ]
