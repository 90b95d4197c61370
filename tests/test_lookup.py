"""Lexicon lookup: entities that sound like words of which greedy decoding was not sure."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from conftest import CAPITALS, PIECES, collapse, random_log_probs, weights_file
from hypothesis import given, settings
from hypothesis import strategies as st
from test_automaton import random_phrases

from nemo_bias.decoder import sounds as sounds_module
from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.entity_list import ShortestTokens, compile_list
from nemo_bias.decoder.frames import whole
from nemo_bias.decoder.lookup import LONGEST_RUN, SURE, unsure_runs, with_proposals
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.spotter import EntityArcs
from nemo_bias.decoder.transcript import LOOKED_UP, SPOTTED
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.decoder.words import greedy_words
from nemo_bias.entities import Entity, EntityListError, read_entities
from nemo_bias.pronunciation.distance import packed, phone_distance
from nemo_bias.pronunciation.index import index_of
from nemo_bias.pronunciation.phones import read_phones

LETTERS = "abcdefghijklmnopqrstuvwxyz"
UNLIKELY = 1e-12  # the probability of what is not near
LEXICON = """\
a AH
nite N AY T
knight N AY T
knightsbridge N AY T S B R IH JH
weigh W EY
way W EY
ooh UW
zyx Z IH K S
"""


@pytest.fixture
def letters() -> Vocabulary:
    """Letters, each also as the start of a word."""
    pieces = ("▁", *LETTERS, *(f"▁{letter}" for letter in LETTERS))
    return Vocabulary(pieces, len(pieces))


@pytest.fixture
def lexicon(tmp_path, monkeypatch) -> str:
    """A lexicon of its own for each test, so that nothing is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "words.dict").write_text(LEXICON)
    return str(tmp_path / "words.dict")


@pytest.fixture
def search(tmp_path, lexicon):
    """Makes decoders with log-odds of 2, less 10 times the distance of the sounds; what the tokens lose does not count."""
    evidence = weights_file(tmp_path / "evidence.json", constant=2, sound=-10)

    def make(vocabulary, **options) -> BiasedBeamSearch:
        chosen = {"evidence_file": evidence, "word_frequencies": None, "pronunciations": lexicon, "variants": [], **options}
        return BiasedBeamSearch(vocabulary, DecodingOptions(**chosen), threads=1)

    return make


def say(vocabulary, text: str, unsure: str = "", blanks: int = 3) -> np.ndarray:
    """Log-probs [T, V] of words in letters, blanks after each.

    In the letters of unsure words the blank is likely, too, and all else is less unlikely, but far too much to be spotted.
    """
    rows = []
    for word in text.split():
        in_doubt = word in unsure.split()
        for k, letter in enumerate(word):
            for token, probability in (
                (vocabulary.pieces.index(letter if k else f"▁{letter}"), 0.7 if in_doubt else 0.999),
                *[(vocabulary.blank, 0.999)] * blanks,
            ):
                row = np.full(vocabulary.size, UNLIKELY * (1000 if in_doubt else 1))
                row[vocabulary.blank] = 1 - probability
                row[token] = probability
                rows.append(row)
    return np.log(np.array(rows)).astype(np.float32)


def decode(decoder, log_probs, phrases, entities=None):
    lists = decoder.compile(phrases, entities=entities)
    return decoder.decode(log_probs[None], lists=lists)[0][0]


def outcome(transcript):
    return transcript.text, transcript.tokens, transcript.score, transcript.spans, transcript.path.tolist()


# ---- the parts, against brute force


@st.composite
def greedy_paths(draw):
    """A vocabulary, a label path and the probability of its labels."""
    vocabulary = Vocabulary(("▁a", "▁b", "a", "b"), 4)
    labels = draw(st.lists(st.integers(0, 4), max_size=14))
    best = draw(st.lists(st.sampled_from([0.4, 0.97, 0.985, 1.0]), min_size=len(labels), max_size=len(labels)))
    return vocabulary, np.array(labels, np.int32), np.log(np.array(best, np.float32))


@given(greedy_paths())
@settings(deadline=None)
def test_unsure_runs_begin_and_end_with_an_unsure_word(case):
    vocabulary, labels, best = case
    starts = [t for t in range(len(labels)) if labels[t] != 4 and (t == 0 or labels[t - 1] != labels[t])]
    first = [k for k, t in enumerate(starts) if k == 0 or labels[t] < 2] + [len(starts)]
    frames = [[t for t in range(start, len(labels)) if (labels[start : t + 1] == labels[start]).all()] for start in starts]
    unsure = [any(best[t] < np.log(SURE) for own in frames[a:b] for t in own) for a, b in itertools.pairwise(first)]
    expected = [
        [first[i], first[j]]
        for i in range(len(unsure))
        for j in range(i + 1, min(len(unsure), i + LONGEST_RUN) + 1)
        if unsure[i] and unsure[j - 1]
    ]
    assert (
        unsure_runs(greedy_words(labels, whole(len(labels)), 4, vocabulary.boundaries), best, np.ones(1, bool)).tolist()
        == expected
    )


@given(st.integers(0, 2**32 - 1), st.data())
@settings(deadline=None)
def test_entities_are_aligned_by_their_best_path(seed, data):
    vocabulary = Vocabulary(("▁a", "▁b", "a", "b"), 4)
    log_probs = random_log_probs(np.random.default_rng(seed), data.draw(st.integers(1, 8)), 5, peak=2.0)
    labels, best = log_probs.argmax(axis=1).astype(np.int32), log_probs.max(axis=1)
    words = greedy_words(labels, whole(len(labels)), 4, vocabulary.boundaries)
    count = len(words.token)
    places = list(itertools.combinations(range(count + 1), 2))[-10:]
    runs = data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)) if places else []
    tokens = [data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3)) for _ in runs]
    sounds = [np.array([3 * k], np.int32) for k in range(len(runs))]  # run k sounds like entity k, and like no other
    shortest = ShortestTokens(*packed([np.array(own, np.int32) for own in tokens]))
    ints, floats = np.array([5], np.int32), np.array([-0.5], np.float32)
    before = EntityArcs(ints, ints, ints, floats, np.array([0, 2], np.int32), np.array([1, 2], np.int32))
    arcs = with_proposals(
        *(before, log_probs, best, whole(len(best)), words, np.array(runs, np.int32).reshape(-1, 2), *packed(sounds)),
        *(index_of([[tuple(sound)] for sound in sounds]), np.float32(0), np.arange(len(runs), dtype=np.int32) + 7),
        *(shortest, 4),
    )
    expected = [(5, 5, 5, -0.5, [1, 2])]
    for k, ((low, high), own) in enumerate(zip(runs, tokens, strict=True)):
        start = words.token_end[low - 1] + 1 if low else 0
        end = words.token_start[high] if high < count else len(labels)
        paths = [path for path in itertools.product(range(5), repeat=end - start) if collapse(path, 4) == tuple(own)]
        if paths:
            path = max(paths, key=lambda path: sum(log_probs[start + t, v] for t, v in enumerate(path)))
            begins = [t for t, v in enumerate(path) if v != 4 and (t == 0 or path[t - 1] != v)]
            frames = range(begins[0], begins[-1] + 1)
            gap = sum(float(log_probs[start + t, path[t]] - best[start + t]) for t in frames)
            expected.append((k + 7, start + begins[0], start + begins[-1], pytest.approx(gap, abs=1e-4), own))
    own = [arcs.tokens[a:b].tolist() for a, b in itertools.pairwise(arcs.first_token)]
    assert list(zip(arcs.phrase, arcs.start, arcs.end, arcs.gap, own, strict=True)) == expected


# ---- what is found


def test_an_entity_that_sounds_like_an_unsure_word_is_written(search, letters):
    log_probs = say(letters, "a nite way", unsure="nite")
    transcript = decode(search(letters), log_probs, ["knight", "zyx"])
    assert transcript.text == "a knight way"
    (span,) = transcript.spans
    assert (span.entity, span.phrase, span.technique) == ("knight", "knight", LOOKED_UP)
    assert span.probability == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-5)  # they sound the same
    assert 0 < span.start < span.end < 20  # `a` takes frame 0, and `way` begins in frame 20
    greedy = log_probs.argmax(axis=1)
    assert transcript.path[:1].tolist() == greedy[:1].tolist()
    assert transcript.path[20:].tolist() == greedy[20:].tolist()


def test_the_less_alike_the_less_likely(search, letters):
    log_probs = say(letters, "a nite way", unsure="nite")
    decoder = search(letters, min_probability=1e-3)
    (span,) = decode(decoder, log_probs, ["zyx"], [Entity("zyx", pronunciations=("N AY D",))]).spans
    distance = phone_distance(
        np.array(read_phones("N AY T")), np.array(read_phones("N AY D")), sounds_module.feature_costs()
    )
    assert 0 < distance < DecodingOptions().lookup_distance
    assert span.probability == pytest.approx(1 / (1 + np.exp(10 * distance - 2)), rel=1e-4)


def test_what_is_near_in_tokens_is_spotted(search, letters):
    transcript = decode(search(letters), say(letters, "a nite way", unsure="nite"), ["nite"])
    assert [(s.phrase, s.technique) for s in transcript.spans] == [("nite", SPOTTED)]


def test_several_words_are_compared_as_one(search, letters):
    """There is room for the entity in both words only."""
    entity = Entity("zyxzyxzyxz", pronunciations=("AH N AY T",))
    log_probs = say(letters, "a nite", unsure="a nite", blanks=1)
    transcript = decode(search(letters), log_probs, [entity.text], [entity])
    assert transcript.text == "zyxzyxzyxz"
    assert transcript.spans[0].probability == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-5)


@pytest.mark.parametrize(
    "said", [{"pronunciations": ("N AY1 T",)}, {"pronunciations": ("B AA B", "naɪt")}, {"spellings": ("nite",)}]
)
def test_what_the_list_says_about_pronunciations_is_used(said, search, letters):
    log_probs = say(letters, "a nite way", unsure="nite")
    decoder = search(letters)
    assert decode(decoder, log_probs, ["zyx"]).spans == ()
    (span,) = decode(decoder, log_probs, ["zyx"], [Entity("zyx", **said)]).spans
    assert (span.phrase, span.technique) == ("zyx", LOOKED_UP)
    assert span.probability == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-5)


def test_joined_lists_are_looked_up_in_both(search, letters):
    """Also on models that write both cases, where a phrase has several forms."""
    cased = Vocabulary((*letters.pieces, *LETTERS.upper()), len(letters.pieces) + 26)
    decoder = search(cased)
    both = decoder.compile(["zyx", "knight"]).joined(decoder.compile(["ooh", "weigh"], names=["Ooh!", "Weigh!"]))
    log_probs = say(cased, "nite a way a", unsure="nite way")
    (transcript,) = decoder.decode(log_probs[None], lists=both)[0]
    assert transcript.text == "knight a weigh a"
    assert [(s.entity, s.phrase, s.technique) for s in transcript.spans] == [
        ("knight", "knight", LOOKED_UP),
        ("Weigh!", "weigh", LOOKED_UP),
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_a_phrase_of_both_joined_lists_has_the_pronunciations_of_both(order, search, letters):
    decoder = search(letters)
    lists = [decoder.compile(["ooh", "zyx"]), decoder.compile(["zyx"], entities=[Entity("zyx", pronunciations=("N AY T",))])]
    first, second = lists[::order]
    log_probs = say(letters, "a nite way", unsure="nite")
    (transcript,) = decoder.decode(log_probs[None], lists=first.joined(second))[0]
    assert transcript.text == "a zyx way"
    assert transcript.spans[0].probability == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-5)


# ---- what stays


def test_a_sure_word_is_not_looked_up(search, letters):
    log_probs = say(letters, "a nite way")
    transcript = decode(search(letters, min_probability=1e-6), log_probs, ["knight"])
    assert (transcript.text, transcript.spans) == ("a nite way", ())
    assert transcript.path.tolist() == log_probs.argmax(axis=1).tolist()


def test_a_phone_head_does_not_make_sure_words_unsure(search, letters):
    log_probs = say(letters, "a nite way")
    phones = random_log_probs(np.random.default_rng(0), 2 * len(log_probs), 40)
    decoder = search(letters, min_probability=1e-6)
    transcript = decoder.decode(log_probs[None], lists=decoder.compile(["knight"]), phones=phones[None])[0][0]
    assert (transcript.text, transcript.spans) == ("a nite way", ())


def test_an_unsure_word_stays_where_nothing_is_near(search, letters):
    log_probs = say(letters, "a nite way", unsure="nite")
    decoder = search(letters, min_probability=1e-6)
    entities = [Entity("zyx", pronunciations=("SH UW SH UW SH UW SH UW SH UW",))]
    assert len(decoder.evidence(log_probs, decoder.compile(["zyx"], entities=entities)).found.phrase) == 0
    assert decode(decoder, log_probs, ["zyx"], entities).text == "a nite way"


def test_an_entity_with_more_tokens_than_frames_stays_out(search, letters):
    log_probs = say(letters, "nite", unsure="nite", blanks=1)
    decoder = search(letters)
    entities = [Entity(phrase, pronunciations=("N AY T",)) for phrase in ("zyxzyxzyx", "zyxzyxzy", "zyxzzyx")]
    for entity, written in zip(entities, (False, True, True), strict=True):
        assert len(log_probs) == 8
        assert (decode(decoder, log_probs, [entity.text], [entity]).text == entity.text) == written
    twice = Entity("zzyyxxzz", pronunciations=("N AY T",))  # a blank must part equal letters
    assert decode(decoder, log_probs, [twice.text], [twice]).text == "nite"


def test_nobody_knows_how_phrases_of_other_scripts_are_said(search, letters):
    vocabulary = Vocabulary((*letters.pieces, *"東京"), len(letters.pieces) + 2)
    log_probs = say(vocabulary, "a nite way", unsure="nite")
    decoder = search(vocabulary)
    assert decode(decoder, log_probs, ["東京"]).text == "a nite way"
    assert decode(decoder, log_probs, ["東京", "knight", "京"]).text == "a knight way"
    spoken = np.concatenate([log_probs, np.full((1, vocabulary.size), np.log(UNLIKELY), np.float32)])
    spoken[-1, vocabulary.pieces.index("東")] = np.log(0.6)
    assert decode(decoder, spoken, ["東", "knight"]).text == "a knight way東"


def test_phrases_that_the_tokens_cannot_write_stay_out(search, letters):
    assert decode(search(letters), say(letters, "a nite", unsure="nite"), ["knight2", "kn!ght"]).text == "a nite"


@pytest.mark.parametrize("vocabulary", [Vocabulary(PIECES, len(PIECES)), Vocabulary((*PIECES, *CAPITALS), 31)])
def test_without_pronunciations_nothing_is_looked_up(vocabulary, search, tmp_path):
    """The same to the bit as with a list of which no pronunciation is known, and whatever the list says of them."""
    evidence = weights_file(tmp_path / "tokens.json", constant=4, gap=-1, loss_per_character=-1)
    found = 0
    for seed in range(30):
        log_probs = random_log_probs(np.random.default_rng(seed), 30, vocabulary.size, peak=3.0)
        phrases = random_phrases(seed, 40)
        with_sounds, without = (
            search(vocabulary, evidence_file=evidence, **more) for more in ({}, {"pronunciations": None})
        )
        entities = [Entity(phrase, pronunciations=("no phones",)) for phrase in phrases]
        lists = [without.compile(phrases, entities=entities), compile_list(phrases, vocabulary)]
        results = [
            outcome(transcript)
            for decoder, entities in ((without, lists[0]), (without, lists[1]), (with_sounds, lists[1]))
            for (transcript,) in decoder.decode(log_probs[None], lists=entities)
        ]
        assert results[0] == results[1] == results[2]
        assert all(span.technique == SPOTTED for span in results[0][3])
        found += len(results[0][3])
    assert found > 20


# ---- lists, and threads


def test_a_wrong_pronunciation_names_its_place(search, letters, tmp_path):
    path = tmp_path / "names.tsv"
    path.write_text("text\tpronunciations\nknight\tN AY T\nzyx\tSH IX\n")
    entities = read_entities(path).entities
    with pytest.raises(EntityListError) as caught:
        search(letters).compile(["knight", "zyx"], entities=entities)
    assert str(caught.value).startswith(f'{path}:3: pronunciation "SH IX": "IX" is not an ARPAbet phone, did you mean')


def test_a_word_sounds_the_same_whatever_else_is_asked(lexicon):
    """Words in capitals, too, which may be taken for acronyms."""
    alone, together = (sounds_module.Sounds(sounds_module.Pronouncer(lexicon)) for _ in range(2))
    texts = ["NATO", "RAM", "a", "Nato", "NATO RAM", "bbc"]
    expected = [alone.heard([text])[0].tolist() for text in texts]
    assert [phones.tolist() for phones in together.heard(texts)] == expected
    assert expected[0] == expected[3]


def test_threads_share_what_they_know(search, letters, lexicon, tmp_path, monkeypatch):
    """New words come in all the time, and what is remembered is thrown away."""
    monkeypatch.setattr(sounds_module, "MOST_REMEMBERED", 40)
    rng = np.random.default_rng(1)
    words = ["".join(rng.choice(list("abdeiknotuy"), 4)) for _ in range(160)]
    utterances = [" ".join([*words[k : k + 4], "nite"]) for k in range(0, 160, 2)]
    batch = [say(letters, text, unsure=text) for text in utterances]
    width = max(map(len, batch))
    log_probs = np.stack([np.pad(each, ((0, width - len(each)), (0, 0))) for each in batch])
    (tmp_path / "same.dict").write_text(LEXICON)
    results = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for threads, pronunciations in ((1, lexicon), (8, str(tmp_path / "same.dict"))):
            decoder = BiasedBeamSearch(letters, search(letters, pronunciations=pronunciations).options, threads)
            lists = decoder.compile(["knight", *words[::7]])
            found = decoder.decode(log_probs, [len(each) for each in batch], lists)
            results.append([outcome(transcript) for (transcript,) in found])
    finally:
        sys.setswitchinterval(interval)
    assert results[0] == results[1]
    assert sum(span.technique == LOOKED_UP for result in results[0] for span in result[3]) > 50
