"""Entity lists for training, and where their entities are spoken."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PIECES
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_bias.adapter.config import AdapterTrainingConfig
from nemo_bias.adapter.guide import NO_BIAS, Mention, Word, aligned_targets, words_of
from nemo_bias.adapter.losses import batch_targets
from nemo_bias.adapter.training_lists import TrainingList, TrainingLists
from nemo_bias.decoder.vocabulary import Vocabulary, character_vocabulary

ROOT = Path(__file__).resolve().parent.parent
SUBWORDS = Vocabulary(PIECES, len(PIECES))
CHARACTERS = character_vocabulary([" ", *"abenorst"])
VOCABULARIES = pytest.mark.parametrize("vocabulary", [SUBWORDS, CHARACTERS], ids=["subwords", "characters"])
COMMON = ["a", "to", "on", "best"]
RARE = ["".join(letters) for letters in itertools.product("bt", "ao", "rn", "et", "sb")]  # 32 words of 5 letters


def spell(vocabulary, text):
    """Token ids of a text: the longest pieces first."""
    left, tokens = vocabulary.marked(text)[0] if text else "", []
    while left:
        piece = max(filter(left.startswith, vocabulary.pieces), key=len)
        tokens.append(vocabulary.pieces.index(piece))
        left = left[len(piece) :]
    return tokens


def pieces(vocabulary, *texts):
    return [vocabulary.pieces.index(text) for text in texts]


def sentences(seed, count, words=7):
    """Random texts; every other word is a common one."""
    draw = random.Random(seed)
    return [" ".join(draw.choice((COMMON, RARE)[k % 2]) for k in range(words)) for _ in range(count)]


def lists(vocabulary=SUBWORDS, corpus=None, marked=(), process=0, **config):
    """Lists that have learnt a corpus, in which the common words are the most common."""
    config = {"common_words": len(COMMON), "fewest_entities": 5, "most_entities": 12} | config
    made = TrainingLists(AdapterTrainingConfig(**config), vocabulary, marked, process)
    made.learn(spell(vocabulary, text) for text in (sentences(99, 60) if corpus is None else corpus))
    return made


def check(drawn, transcripts, vocabulary):
    """What is true of every list: all entities are different, and mentions are just where offered ones are spoken."""
    assert len(set(drawn.entities)) == len(drawn.entities) and all(drawn.entities)
    assert drawn.offered.shape == (len(transcripts), len(drawn.entities))
    for transcript, offered, mentions, spoken in zip(transcripts, drawn.offered, drawn.mentions, drawn.spoken, strict=True):
        words = words_of(transcript, vocabulary)
        expected = {
            (m, words[i].first, words[j].end)
            for m, entity in enumerate(drawn.entities)
            for i in range(len(words))
            for j in range(i, len(words))
            if offered[m] and tuple(transcript[words[i].first : words[j].end]) == entity
        }
        assert set(mentions) == expected and len(mentions) == len(expected)
        assert np.flatnonzero(spoken).tolist() == sorted({mention.entity for mention in mentions})


# Words


def test_words_of_a_subword_vocabulary():
    tokens = pieces(SUBWORDS, "▁bo", "st", "on", "▁a", "▁", "n", "o", "▁to")
    words = [("boston", 0, 3), ("a", 3, 4), ("no", 4, 7), ("to", 7, 8)]
    assert words_of(tokens, SUBWORDS) == [Word(*word) for word in words]
    assert words_of(pieces(SUBWORDS, "on", "er", "▁t"), SUBWORDS) == [Word("oner", 0, 2), Word("t", 2, 3)]
    assert words_of([], SUBWORDS) == []


def test_words_of_a_character_vocabulary():
    assert words_of(spell(CHARACTERS, "no bet a"), CHARACTERS) == [Word("no", 0, 2), Word("bet", 3, 6), Word("a", 7, 8)]
    assert words_of(pieces(CHARACTERS, "▁", "a", "▁", "▁", "b"), CHARACTERS) == [Word("a", 1, 2), Word("b", 4, 5)]
    assert words_of([], CHARACTERS) == []


@VOCABULARIES
@given(texts=st.lists(st.sampled_from(COMMON + RARE), max_size=8))
def test_words_hold_the_tokens_that_write_them(vocabulary, texts):
    tokens = spell(vocabulary, " ".join(texts))
    words = words_of(tokens, vocabulary)
    assert [word.text for word in words] == texts
    for word in words:
        assert vocabulary.text(tokens[word.first : word.end]) == word.text


# Targets of attention

BLANK = 9


def peaky(path, width=BLANK + 1):
    """Log-probs of a recogniser that is sure of a path, in which "." is the blank and digits are tokens."""
    probabilities = np.full((len(path), width), 0.01 / (width - 1), np.float32)
    for row, label in zip(probabilities, path, strict=True):
        row[BLANK if label == "." else int(label)] = 0.99
    return np.log(probabilities)


def targets(path, tokens, *mentions):
    """Entities and positions of the frames, as strings: "." is no entity."""
    found = aligned_targets(peaky(path), [int(t) for t in tokens], [Mention(*m) for m in mentions], BLANK)
    entity, position, label = found
    assert entity.shape == position.shape == label.shape == (len(path),)
    assert "".join("." if k == BLANK else str(k) for k in label) == path or not mentions
    written = "".join("." if e == NO_BIAS else str(e) for e in entity)
    return written, "".join("." if e == NO_BIAS else str(p) for e, p in zip(entity, position, strict=True))


@pytest.mark.parametrize(
    ("path", "tokens", "mention", "entity", "position"),
    [
        (".1.22.3...4.", "1234", (5, 1, 3), "..555555....", "..000011...."),  # one frame more on both sides
        ("..1....2..", "12", (0, 0, 2), ".00000000.", ".00001111."),  # each frame goes to the nearest token, or the first
        ("123", "123", (7, 1, 2), ".7.", ".0."),  # as far as the neighbours leave it
        ("1.2", "12", (3, 0, 1), "33.", "00."),
        ("1.2", "12", (3, 1, 2), ".33", ".00"),
        ("11.1.", "11", (2, 0, 2), "22222", "00011"),  # a token twice
        ("1.23", "123", (4, 0, 3), "4444", "0012"),
    ],
)
def test_targets_of_an_entity(path, tokens, mention, entity, position):
    assert targets(path, tokens, mention) == (entity, position)


def test_targets_without_mentions():
    assert targets(".1.2.", "12") == (".....", ".....")
    assert targets("...", "") == ("...", "...")


def test_the_longer_of_two_overlapping_mentions_counts():
    for mentions in itertools.permutations([(0, 1, 2), (1, 0, 2), (2, 3, 4)]):
        assert targets(".1..2..3..4.", "1234", *mentions)[0] == "111111...222"
    assert targets(".1..2..3..4.", "1234", (0, 0, 2), (1, 1, 4))[0] == "...111111111"
    for mentions in itertools.permutations([(0, 1, 3), (1, 0, 2)]):  # of equal length: the first in time
        assert targets(".1..2..3.", "123", *mentions)[0] == "111111..."


@pytest.mark.parametrize("gap", [0, 2, 3, 5])
def test_neighbouring_mentions_both_count(gap):
    entity, _ = targets(".1." + "2" + gap * "." + "3.4.", "1234", (0, 0, 2), (1, 2, 4))
    assert set(entity) == {"0", "1"} or gap > 2
    assert entity[1] == entity[3] == "0" and entity[4 + gap] == entity[-2] == "1"


def test_neighbouring_mentions_with_one_frame_between_both_count():
    entity, _ = targets(".1.2.3.4.", "1234", (0, 0, 2), (1, 2, 4))
    assert entity[1] == entity[3] == "0" and entity[5] == entity[7] == "1"


@pytest.mark.parametrize(("frames", "tokens"), [(1, [1, 2]), (2, [3, 3]), (4, [1, 1, 2, 2])])
def test_an_utterance_too_short_for_its_transcript_has_no_targets(frames, tokens):
    mentions = [Mention(0, 0, 1)]
    assert aligned_targets(peaky("." * frames), tokens, mentions, BLANK) is None
    enough = len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens))
    assert aligned_targets(peaky("." * enough), tokens, mentions, BLANK) is not None


def test_targets_of_a_batch():
    drawn = TrainingList(
        ((1, 2), (3,)), np.ones((3, 2), np.bool_), ((Mention(0, 0, 2),), (Mention(1, 0, 1),), (Mention(1, 1, 2),))
    )
    log_probs = np.stack([peaky(".1.2."), peaky("3...1"), peaky(".4.3.")])
    entity, position, label, counted = batch_targets(log_probs, [5, 1, 4], [[1, 2], [3, 3], [4, 3]], drawn, BLANK)
    assert entity.tolist() == [[0, 0, 0, 0, 0], [NO_BIAS] * 5, [NO_BIAS, NO_BIAS, 1, 1, NO_BIAS]]
    assert position.tolist() == [[0, 0, 0, 1, 1], [0] * 5, [0] * 5]
    assert label.tolist() == [[9, 1, 9, 2, 9], [9] * 5, [9, 4, 9, 3, 9]]
    assert counted.tolist() == [[True] * 5, [False] * 5, [True] * 4 + [False]]  # the second is too short


# Lists

SENTENCE = st.lists(st.sampled_from(COMMON + RARE[:12]), max_size=9).map(" ".join)


@VOCABULARIES
@settings(deadline=None, max_examples=80)
@given(
    texts=st.lists(SENTENCE, min_size=1, max_size=4),
    seed=st.integers(0, 5),
    drop_rate=st.sampled_from([0, 0.5]),
    empty_rate=st.sampled_from([0, 0.5]),
    most_spoken=st.integers(0, 4),
    marked=st.lists(st.lists(st.sampled_from(COMMON + RARE[:12]), min_size=1, max_size=3).map(" ".join), max_size=4),
)
def test_mentions_are_where_offered_entities_are_spoken(vocabulary, texts, seed, drop_rate, empty_rate, most_spoken, marked):
    rates = {"drop_rate": drop_rate, "empty_rate": empty_rate, "most_spoken": most_spoken}
    made = lists(vocabulary, marked=marked, seed=seed, **rates)
    transcripts = [spell(vocabulary, text) for text in texts]
    check(made.draw(transcripts), transcripts, vocabulary)
    everything = made.everything(transcripts, size=20)
    check(everything, transcripts, vocabulary)
    assert everything.offered.all()


@VOCABULARIES
def test_sizes_are_within_the_limits_and_vary(vocabulary):
    made = lists(vocabulary, fewest_entities=6, most_entities=20)
    texts = [spell(vocabulary, text) for text in sentences(1, 2)]
    sizes = {len(made.draw(texts).entities) for _ in range(100)}
    assert min(sizes) == 6 and max(sizes) == 20 and len(sizes) > 10
    assert all(len(made.everything(texts, size).entities) == size for size in (15, 25))


def test_a_lower_limit_above_the_upper_one_holds():
    made = lists(fewest_entities=10, most_entities=3)
    assert {len(made.draw([spell(SUBWORDS, text) for text in sentences(1, 2)]).entities) for _ in range(5)} == {10}


@pytest.mark.parametrize("most_spoken", [0, 1, 3])
def test_few_phrases_of_a_transcript_are_drawn(most_spoken):
    made = lists(fewest_entities=0, most_entities=0, most_spoken=most_spoken)
    (text,) = sentences(2, 1, words=15)
    counts = [len(made.draw([spell(SUBWORDS, text)]).entities) for _ in range(60)]
    assert min(counts) == 0 and max(counts) == most_spoken


def test_drawn_phrases_are_short_and_hold_a_rare_word():
    made = lists(fewest_entities=0, most_entities=0)
    lengths = set()
    for text in sentences(3, 60, words=9):
        for entity in made.draw([spell(SUBWORDS, text)]).entities:
            phrase = SUBWORDS.text(entity)
            assert f" {phrase} " in f" {text} "
            assert set(phrase.split()) & set(RARE)
            lengths.add(len(phrase.split()))
    assert lengths == {1, 2, 3}


def test_distractors_come_from_other_transcripts():
    corpus = sentences(4, 30)
    made = lists(corpus=corpus, fewest_entities=20, most_entities=20)
    for entity in made.draw([[]]).entities:
        phrase = SUBWORDS.text(entity)
        assert any(f" {phrase} " in f" {text} " for text in corpus)
        assert set(phrase.split()) & set(RARE)


def draws(made, vocabulary=SUBWORDS, count=40):
    """Lists of batches of five."""
    for seed in range(count):
        yield made.draw([spell(vocabulary, text) for text in sentences(seed, 5)])


def said(drawn, seed):
    """[B, M] which entities are in the texts of the batch, offered or not."""
    texts = [f" {text} " for text in sentences(seed, len(drawn.offered))]
    return np.array([[f" {SUBWORDS.text(entity)} " in text for entity in drawn.entities] for text in texts])


@pytest.mark.parametrize("rates", [{"drop_rate": 1.0}, {"empty_rate": 1.0}])
def test_spoken_entities_can_all_be_kept_back(rates):
    for seed, drawn in enumerate(draws(lists(**rates))):
        assert drawn.mentions == ((),) * 5
        spoken = said(drawn, seed)
        assert spoken.any() and not drawn.offered[spoken].any() and drawn.offered[~spoken].any()


def test_all_spoken_entities_can_be_offered():
    for seed, drawn in enumerate(draws(lists(drop_rate=0.0, empty_rate=0.0))):
        assert (drawn.spoken == said(drawn, seed)).all()


def test_rates_of_what_is_kept_back():
    dropped, emptied = [], []
    for seed, drawn in enumerate(draws(lists(drop_rate=0.3, empty_rate=0.0), count=150)):
        dropped += (~drawn.spoken[said(drawn, seed)]).tolist()
    for seed, drawn in enumerate(draws(lists(drop_rate=0.0, empty_rate=0.3), count=150)):
        for row, spoken in zip(said(drawn, seed), drawn.spoken, strict=True):
            assert not spoken.any() or (spoken == row).all()
            emptied += [not spoken.any()] if row.any() else []
    assert np.mean(dropped) == pytest.approx(0.3, abs=0.05)
    assert np.mean(emptied) == pytest.approx(0.3, abs=0.05)


def test_utterances_see_all_distractors_or_a_share():
    shares = np.concatenate([drawn.offered.mean(axis=1) for drawn in draws(lists(drop_rate=0.0, empty_rate=0.0))])
    assert 0.4 < (shares == 1).mean() < 0.7
    assert shares.min() < 0.3


def test_lists_are_determined_by_their_seeds():
    def drawn(**seeds):
        return [(each.entities, each.offered.tolist(), each.mentions) for each in draws(lists(**seeds), count=5)]

    assert drawn() == drawn()
    assert drawn() != drawn(process=1) != drawn(process=2)
    assert drawn() != drawn(seed=1)


PROGRAM = """
from nemo_bias.adapter.config import AdapterTrainingConfig
from nemo_bias.adapter.training_lists import TrainingLists
from nemo_bias.decoder.vocabulary import character_vocabulary

letters = " abcdefghijklmnopqrstuvwxyz"
marked = ["a " + letter + ending for letter in letters[1:] for ending in ("", " c", " c d")]
texts = [[letters.index(letter) for letter in phrase] for phrase in marked]
lists = TrainingLists(AdapterTrainingConfig(), character_vocabulary(letters), marked)
lists.learn(texts)
print([lists.draw(texts) for _ in range(3)])
"""


def test_lists_are_the_same_in_every_process():
    """Python gives strings other hashes in each process."""
    shown = set()
    for seed in ("0", "1"):
        env = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        shown.add(done.stdout)
    assert len(shown) == 1


@VOCABULARIES
def test_marked_phrases_are_drawn(vocabulary):
    phrase = "best to on a"  # of common words only, and longer than any phrase that is drawn unmarked
    made = lists(vocabulary, corpus=[*sentences(99, 60), f"boston {phrase} tea"], marked=[phrase, "  ", "never said"])
    tokens = tuple(spell(vocabulary, f"on {phrase}"))[-len(spell(vocabulary, phrase)) :]
    text = spell(vocabulary, f"on {phrase} {RARE[0]}")
    spoken = sum(tokens in made.draw([text]).entities for _ in range(100))
    assert spoken > 40
    unmarked = lists(vocabulary, corpus=[*sentences(99, 60), f"boston {phrase} tea"])
    assert not any(tokens in unmarked.draw([text]).entities for _ in range(100))
    assert any(tokens in made.draw([[]]).entities for _ in range(100))  # as a distractor


def test_everything_lists_marked_phrases_or_else_rare_words():
    made = lists(marked=["to on"])
    texts = [spell(SUBWORDS, text) for text in (f"a to on {RARE[0]}", f"best {RARE[1]} a {RARE[2]}", "a best to")]
    drawn = made.everything(texts, size=0)
    assert {SUBWORDS.text(entity) for entity in drawn.entities} == {"to on", RARE[1], RARE[2]}
    assert drawn.spoken.sum(axis=1).tolist() == [1, 2, 0]
    larger = made.everything(texts, size=30)
    assert len(larger.entities) == 30 and larger.entities[:3] == drawn.entities and larger.offered.all()


@pytest.fixture
def impatient():
    """Stops a test that hangs."""

    def stop(*_):
        raise TimeoutError("longer than ten seconds")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def test_a_corpus_with_few_distractors(impatient):
    made = lists(corpus=["boston to a best toast", "on a renton"], fewest_entities=50, most_entities=400)
    drawn = made.draw([spell(SUBWORDS, "a boston")])
    assert 0 < len(drawn.entities) <= 4
    assert 0 < len(made.everything([spell(SUBWORDS, "a")], size=300).entities) <= 4


def test_lists_are_ready_once_they_know_phrases():
    made = lists(corpus=[])
    assert not made.ready
    made.learn([spell(SUBWORDS, text) for text in sentences(0, 20)])
    assert made.ready


@pytest.mark.parametrize("corpus", [["a boston", "to boston on"], [""], []])
def test_a_corpus_without_phrases(corpus):
    made = lists(corpus=corpus, common_words=300)
    texts = [spell(SUBWORDS, text) for text in ("a boston", "")]
    for drawn in (made.draw(texts), made.everything(texts, size=300)):
        check(drawn, texts, SUBWORDS)
