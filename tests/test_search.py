"""Decoding: greedy text with the entities in it, and nothing else changed; clear about bad input."""

from __future__ import annotations

import itertools
import random
import unicodedata

import numpy as np
import pytest
from conftest import MARKS, PIECES, collapse, is_boundary, random_log_probs, speak, weights_file
from test_automaton import random_phrases

from nemo_bias.decoder.candidates import CandidateFinder
from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.entity_list import compile_list
from nemo_bias.decoder.frames import BatchFrames, whole
from nemo_bias.decoder.frequencies import SHORTEST_TEXT
from nemo_bias.decoder.probability import (
    COMMON,
    COMMON_AND_MORE,
    COMMON_AND_SURE,
    COMMONEST,
    CONFIDENT,
    OF_TEXTS,
    SOUND,
    TERMS,
    TIE,
    log_odds_of,
    most_of_texts,
)
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.vocabulary import Vocabulary, character_vocabulary
from nemo_bias.decoder.word_pairs import STRONGEST, TYPICAL


@pytest.fixture
def search(tmp_path):
    """Makes decoders whose evidence is easy to foresee: log-odds of 4, less the nats lost; no lookup and no variants."""
    evidence = weights_file(tmp_path / "evidence.json", constant=4, gap=-1, loss_per_character=-1)

    def make(vocabulary, **options) -> BiasedBeamSearch:
        chosen = {"evidence_file": evidence, "word_frequencies": None, "pronunciations": None, "variants": [], **options}
        return BiasedBeamSearch(vocabulary, DecodingOptions(**chosen), threads=1)

    return make


def vocabulary(*pieces: str) -> Vocabulary:
    return Vocabulary(pieces, len(pieces))


def decode(decoder, log_probs, phrases=(), weights=None, **more):
    """The best transcript of one utterance [T, V]."""
    if more.get("plain") is not None:
        more["plain"] = more["plain"][None]
    return decoder.decode(log_probs[None], lists=decoder.compile(phrases, weights), **more)[0][0]


def greedy_text(decoder, log_probs) -> str:
    return decoder.decode(log_probs[None])[0][0].text


BARN = ["▁no", "▁b", "o", "r", "n", "▁a"]  # "no born a", in which "born" is heard as "barn"
HEARD = {2: ("a", 0.7)}


# ---- what is found


def test_an_entity_replaces_what_sounds_alike(search, subwords):
    log_probs = speak(subwords, BARN, HEARD)
    decoder = search(subwords)
    assert greedy_text(decoder, log_probs) == "no barn a"
    transcript = decode(decoder, log_probs, ["toast", "born"])
    assert transcript.text == "no born a"
    (span,) = transcript.spans
    assert (span.entity, span.phrase, span.start, span.end) == ("born", "born", 2, 8)
    assert transcript.score == 0


def test_the_packages_own_weights_find_a_clear_entity(subwords):
    log_probs = speak(subwords, ["▁no", "▁bo", "r", "n", "e", "st", "▁a"], {3: ("s", 0.5)})
    decoder = BiasedBeamSearch(subwords)
    assert greedy_text(decoder, log_probs) == "no borsest a"
    assert decode(decoder, log_probs, ["bornest", "toast"]).text == "no bornest a"


def test_the_packages_own_weights_leave_what_sounds_different(subwords):
    log_probs = speak(subwords, BARN)
    assert decode(BiasedBeamSearch(subwords), log_probs, ["toast", "arnest", "torn", "bert"]).spans == ()


def test_spans_show_the_authors_spelling(search, subwords):
    log_probs = speak(subwords, BARN, HEARD)
    decoder = search(subwords)
    (transcript,) = decoder.decode(log_probs[None], lists=decoder.compile(["born"], names=["Born!"]))[0]
    assert [(s.entity, s.phrase) for s in transcript.spans] == [("Born!", "born")]


def test_other_tokenisations_of_an_entity_are_found(search, subwords):
    log_probs = speak(subwords, ["▁to", "a", "st", "▁no"], {2: ("b", 0.6)})
    assert decode(search(subwords), log_probs, ["toast"]).text == "toast no"
    assert decode(search(subwords), log_probs, ["toast"]).tokens[0] == subwords.pieces.index("▁to")


def test_an_entity_of_two_words(search, subwords):
    log_probs = speak(subwords, BARN, {2: ("a", 0.7)})
    transcript = decode(search(subwords), log_probs, ["born a"])
    assert (transcript.text, transcript.spans[0].phrase) == ("no born a", "born a")


def test_an_entity_that_greedy_decoding_writes_keeps_its_labels(search, subwords):
    log_probs = speak(subwords, BARN).repeat(2, axis=0)  # every label takes two frames
    transcript = decode(search(subwords), log_probs, ["born"])
    assert transcript.path.tolist() == log_probs.argmax(axis=1).tolist()
    assert [(s.phrase, s.start, s.end) for s in transcript.spans] == [("born", 4, 17)]


def test_the_longer_entity_wins(search, subwords):
    log_probs = speak(subwords, ["▁to", "▁b", "o", "r", "n"], {0: ("▁no", 0.5)})
    assert [s.phrase for s in decode(search(subwords), log_probs, ["to", "to born"]).spans] == ["to born"]


# ---- what stays


@pytest.mark.parametrize(
    "options",
    [{}, {"weight": 0.0}, {"method": "greedy"}, {"min_probability": 1 - 1e-9}],
    ids=["none", "0", "greedy", "sure"],
)
def test_without_accepted_entities_the_output_is_greedy(options, search, subwords):
    rng = np.random.default_rng(1)
    decoder = search(subwords, **options)
    phrases = random_phrases(1, 50) if options else []
    for _ in range(20):
        log_probs = random_log_probs(rng, 30, subwords.size, peak=2.0)
        path = log_probs.argmax(axis=1)
        for transcript in (decode(decoder, log_probs, phrases), decoder.decode(log_probs[None])[0][0]):
            assert transcript.path.tolist() == path.tolist()
            assert transcript.tokens == collapse(path, subwords.blank)
            assert transcript.text == subwords.text(transcript.tokens)
            assert (transcript.spans, transcript.score) == ((), 0)


def murmur(vocabulary, sure: float) -> np.ndarray:
    """[T, V] in which "no barn a" is heard with this probability of each token, and anything else with the rest."""
    log_probs = speak(vocabulary, BARN, HEARD)
    sayings = log_probs.argmax(axis=1) != vocabulary.blank
    log_probs[sayings] = np.log((1 - sure) / (vocabulary.size - 1))
    log_probs[sayings, speak(vocabulary, BARN).argmax(axis=1)[sayings]] = np.log(sure)
    return log_probs


def test_utterances_that_are_not_understood_have_no_entities(search, subwords, caplog):
    """Noise, or another language: where all that can be written is nearly as likely, everything sounds like a name."""
    decoder = search(subwords, min_probability=1e-3)
    clear, unclear = murmur(subwords, 0.45), murmur(subwords, 0.35)
    assert [span.phrase for span in decode(decoder, clear, ["born"]).spans] == ["born"]
    for n in range(40):
        transcript = decode(decoder, unclear if n else clear, ["born"])
        assert bool(transcript.spans) == (n == 0)
    (told,) = caplog.messages
    assert told.startswith(
        "nemo_bias: the list has no effect in 18 of the first 20 utterances, as the recogniser is hardly sure"
    )


def test_entities_of_weight_zero_are_switched_off(search, subwords):
    log_probs = speak(subwords, BARN, HEARD)
    transcript = decode(search(subwords), log_probs, ["born", "toast"], [0.0, 1.0])
    assert (transcript.text, transcript.spans) == ("no barn a", ())


THAI = "กขคีนา"
WORDPIECES = ("▁a", "▁b", "▁n", "▁t", "▁o", "▁r", "▁e", "▁s", "a", "b", "n", "o", "r", "t", "e", "s", "▁bo", "er")
VOCABULARIES = {
    "subwords": (vocabulary(*PIECES), "abenorst"),
    "marks": (vocabulary(*PIECES, *MARKS), "abenorst"),
    "both cases": (vocabulary(*PIECES, *MARKS, *"ABENORST", "▁A", "▁B", "▁Bo"), "abenorstAB"),
    "characters": (character_vocabulary([" ", *"abenorst"]), "abenorst"),
    "characters, marks, both cases": (character_vocabulary([" ", *"abenorstABENORST',.-"]), "abenorstAB"),
    "word pieces": (vocabulary(*WORDPIECES), "abenorst"),
    "chinese": (vocabulary(*"東京都人大"), "東京都人大"),
    "chinese, word start": (vocabulary("▁", *"東京都人大"), "東京都人大"),
    "chinese and latin": (vocabulary("▁", *"東京abnt", "▁a", "▁b", ","), "東京abnt"),
    "thai": (vocabulary("▁", *THAI, "▁ก"), THAI),
}


def some_phrases(draw: random.Random, alphabet: str, count: int) -> list[str]:
    """Distinct phrases of one or two words; none begins with a combining mark."""
    letters = [c for c in alphabet if unicodedata.category(c)[0] != "M"]
    word = lambda: draw.choice(letters) + "".join(draw.choices(alphabet, k=draw.randint(0, 4)))  # noqa: E731
    return list(dict.fromkeys(" ".join(word() for _ in range(draw.randint(1, 2))) for _ in range(count)))


def word_frames(vocabulary, labels) -> list[list[int]]:
    """The frames of each word that a label path writes; a lone ``▁`` joins the word after it, but in character models."""
    words: list[list[int]] = []
    before = ""
    for token, group in itertools.groupby(range(len(labels)), key=lambda t: labels[t]):
        if token == vocabulary.blank:
            continue
        piece = vocabulary.pieces[token]
        joins = before.endswith("▁") and not piece.startswith("▁") and not vocabulary.delimited
        if not words or (is_boundary(before, piece) and not joins):
            words.append([])
        words[-1] += list(group)
        before = piece
    return words


def check_spans(vocabulary, transcript, least: float | None) -> None:
    """Every span's phrase stands as whole words at its frames; None: it may be as unlikely as it likes."""
    for before, after in itertools.pairwise(transcript.spans):
        assert before.end < after.start
    for span in transcript.spans:
        cuts = [span.start, span.end + 1]
        parts = [collapse(part, vocabulary.blank) for part in np.split(transcript.path, cuts)]
        assert sum(parts, ()) == transcript.tokens
        left, inside, right = ("".join(vocabulary.pieces[t] for t in part) for part in parts)
        assert inside.strip("▁").replace("▁", " ") == span.phrase
        assert is_boundary(left, inside) and is_boundary(inside, right)
        if least is None:
            continue
        assert span.asked_for * 0.999 <= span.probability <= 1
        assert 0.999 <= odds(span.asked_for) / odds(least) <= 2.001


@pytest.mark.parametrize("bias", [False, True], ids=["", "biased"])
@pytest.mark.parametrize("name", VOCABULARIES)
def test_nothing_else_changes(name, bias, search):
    """On random log-probs that are full of entities: other words keep their labels, and entities are whole words."""
    vocabulary, alphabet = VOCABULARIES[name]
    found = 0
    for seed in range(100):
        rng, draw = np.random.default_rng(seed), random.Random(seed)
        log_probs = random_log_probs(rng, draw.randint(1, 30), vocabulary.size, peak=draw.choice([2.0, 3.0, 4.0]))
        if draw.random() < 0.5:  # labels last, so that arcs cut tokens
            log_probs = log_probs.repeat(rng.integers(1, 4, len(log_probs)), axis=0)
            log_probs = log_probs + 0.5 * random_log_probs(rng, *log_probs.shape, peak=1.0)
            log_probs -= np.logaddexp.reduce(log_probs, axis=1, keepdims=True)
        plain = 0.5 * log_probs + random_log_probs(rng, *log_probs.shape, peak=2.0) if bias else None
        if plain is not None:
            plain -= np.logaddexp.reduce(plain, axis=1, keepdims=True)
        decoder = search(vocabulary, min_probability=draw.choice([0.5, 1e-3]), weight=draw.choice([1.0, 1e3]))
        transcript = decode(decoder, log_probs, some_phrases(draw, alphabet, draw.choice([3, 20, 60])), plain=plain)
        assert collapse(transcript.path, vocabulary.blank) == transcript.tokens
        assert vocabulary.text(transcript.tokens) == transcript.text
        check_spans(vocabulary, transcript, decoder.options.min_probability)
        labels = (log_probs if plain is None else plain).argmax(axis=1)
        kept = np.ones(len(labels), np.bool_)
        for span in transcript.spans:
            kept[span.start : span.end + 1] = False
        for frames in word_frames(vocabulary, labels):
            kept[frames] &= kept[frames].all()
        assert transcript.path[kept].tolist() == labels[kept].tolist()
        found += len(transcript.spans)
    assert found > 30


# ---- probability and weights


def probability(decoder, log_probs, phrase, weight=1.0) -> float:
    (span,) = decode(decoder, log_probs, [phrase], [weight]).spans
    return span.probability


def odds(p: float) -> float:
    return p / (1 - p)


@pytest.mark.parametrize("seed", range(20))
def test_texts_never_add_more_than_foreseen(seed):
    """So no arc is left out before its texts are compared that would be written if they were."""
    rng = np.random.default_rng(seed)
    weights, terms = rng.normal(size=(2, 50, len(TERMS))).astype(np.float32)
    terms[:, CONFIDENT] = rng.random(50)
    terms[:, OF_TEXTS] = 0
    replaced = rng.integers(0, 4, 50).astype(np.float32)  # words as the decoder counts them, of which a text may have fewer
    foreseen = most_of_texts(terms, weights, np.maximum(0, replaced - 1))
    without = log_odds_of(terms, weights)
    for sound, common, fewer in itertools.product([0.0, 0.4, 1.0], [0.0, 3.0, COMMONEST], [0, 1, 2]):
        terms[:, SOUND], terms[:, COMMON], terms[:, COMMON_AND_SURE] = sound, common, common * terms[:, CONFIDENT]
        terms[:, COMMON_AND_MORE] = terms[:, COMMON_AND_SURE] * np.maximum(0, replaced - 1 - fewer)
        terms[:, TIE] = rng.uniform(0, STRONGEST, 50)
        assert (log_odds_of(terms, weights) <= without + foreseen + 1e-4).all()


@pytest.mark.parametrize("bias", [False, True], ids=["", "biased"])
def test_no_likely_arc_is_left_out(bias, subwords, tmp_path):
    """Of words that the adapter hears as one, and the recogniser as several, each counts."""
    evidence = weights_file(tmp_path / "evidence.json", constant=-1, gap=-0.2, common_and_more=1.5, tie=0.3)
    line = " ".join([*"abenorst", *map("".join, itertools.product("abenorst", repeat=2))])
    (tmp_path / "text.txt").write_text(f"{line}\n{line}\n")
    options = DecodingOptions(
        evidence_file=evidence, word_frequencies=str(tmp_path / "text.txt"), pronunciations=None, variants=[]
    )
    finder, found = CandidateFinder(subwords, options, None), 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        log_probs = plain = random_log_probs(rng, 30, subwords.size, peak=3.0)
        if bias:
            plain = 0.3 * log_probs + random_log_probs(rng, 30, subwords.size, peak=3.0)
            plain -= np.logaddexp.reduce(plain, axis=1, keepdims=True)
        own = plain, plain.max(1), plain.argmax(1).astype(np.int32)
        frames = BatchFrames(log_probs, log_probs.max(1), *own, None, whole(30))
        entities = compile_list(random_phrases(seed, 60), subwords)
        ((every,), (some,)) = (finder.find(frames, entities, least) for least in (-np.inf, 0.0))
        likely = np.flatnonzero(every.log_odds >= 0)
        left = set(zip(some.phrase.tolist(), some.arcs.start.tolist(), strict=True))
        assert left.issuperset(zip(every.phrase[likely].tolist(), every.arcs.start[likely].tolist(), strict=True))
        found += len(likely)
    assert found > 10


def test_weights_multiply_the_odds(search, subwords):
    log_probs = speak(subwords, BARN, HEARD)
    once = odds(probability(search(subwords), log_probs, "born"))
    assert odds(probability(search(subwords), log_probs, "born", 2.0)) == pytest.approx(2 * once, rel=1e-4)
    assert odds(probability(search(subwords, weight=2.0), log_probs, "born")) == pytest.approx(2 * once, rel=1e-4)
    assert odds(probability(search(subwords, weight=0.5), log_probs, "born", 4.0)) == pytest.approx(2 * once, rel=1e-4)


def test_a_phrase_of_weight_0_is_as_if_it_were_not_listed(search, subwords):
    decoder, log_probs = search(subwords), speak(subwords, BARN, HEARD)
    listed = decoder.compile(["born", "barn", "toast"], [1.0, 0.0, 0.0], names=["Born", "Barn", "Toast"])
    assert (listed.phrases, listed.names) == (("born",), ("Born",))
    with_it, without = (decode(decoder, log_probs, *own) for own in ((["born", "barn"], [1.0, 0.0]), (["born"],)))
    assert outcome(with_it) == outcome(without)
    assert not decoder.compile(["born"], [0.0])


def test_evidence_becomes_probability(search, subwords):
    log_probs = speak(subwords, BARN, HEARD)
    gap = log_probs[4, subwords.pieces.index("a")] - log_probs[4, subwords.pieces.index("o")]
    assert odds(probability(search(subwords), log_probs, "born")) == pytest.approx(np.exp(4 - gap - gap / 4), rel=1e-3)


def test_what_is_written_is_likely_enough(search, subwords):
    log_probs = speak(subwords, BARN, HEARD)
    p = probability(search(subwords), log_probs, "born")
    assert decode(search(subwords, min_probability=p - 0.01), log_probs, ["born"]).text == "no born a"
    assert decode(search(subwords, min_probability=p + 0.01), log_probs, ["born"]).text == "no barn a"


@pytest.mark.parametrize(("risk", "times"), [(-20, 1), (0, 1.5), (20, 2)])
def test_more_is_asked_for_where_right_words_would_be_lost(risk, times, search, subwords, tmp_path):
    log_probs = speak(subwords, BARN, HEARD)
    own = odds(probability(search(subwords), log_probs, "born"))
    terms = {"constant": 4, "gap": -1, "loss_per_character": -1}
    evidence = weights_file(tmp_path / "risk.json", risk={"constant": risk}, **terms)
    for more, text in ((0.98, "no born a"), (1.02, "no barn a")):
        asked = own / times * more
        decoder = search(subwords, evidence_file=evidence, min_probability=asked / (1 + asked))
        transcript = decode(decoder, log_probs, ["born"])
        assert transcript.text == text
        assert [odds(span.asked_for) for span in transcript.spans] == pytest.approx([asked * times] * len(transcript.spans))


def test_what_is_at_risk_is_told_by_what_is_replaced(search, subwords, tmp_path):
    (tmp_path / "text.txt").write_text("the barn is a barn\n")
    evidence = weights_file(tmp_path / "risk.json", risk={"constant": -30, "common": 20}, constant=0.3)
    for heard, text in (("a", "no barn a"), ("e", "no born a")):  # "bern" is no word of the text
        decoder = search(subwords, evidence_file=evidence, word_frequencies=str(tmp_path / "text.txt"))
        assert decode(decoder, speak(subwords, BARN, {2: (heard, 0.7)}), ["born"]).text == text


def test_what_is_at_risk_is_what_is_replaced_also_with_an_adapter(search, subwords, tmp_path):
    """Though the adapter writes the entity itself, and the evidence compares with that."""
    (tmp_path / "text.txt").write_text("the barn is a barn\n")
    evidence = weights_file(tmp_path / "risk.json", risk={"constant": -30, "common": 20}, constant=0.3)
    decoder = search(subwords, evidence_file=evidence, word_frequencies=str(tmp_path / "text.txt"))
    born = speak(subwords, BARN)
    for heard, text in (("a", "no barn a"), ("e", "no born a")):
        assert decode(decoder, born, ["born"], plain=speak(subwords, BARN, {2: (heard, 0.7)})).text == text


def test_nothing_is_at_risk_where_the_recogniser_writes_the_same(search, subwords, tmp_path):
    evidence = weights_file(tmp_path / "risk.json", risk={"constant": 20}, constant=0.3)
    (span,) = decode(search(subwords, evidence_file=evidence), speak(subwords, BARN), ["born"]).spans
    assert odds(span.asked_for) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("seed", range(10))
def test_more_is_written_at_a_lower_probability(seed, search, subwords):
    log_probs = random_log_probs(np.random.default_rng(seed), 200, subwords.size, peak=3.0)
    phrases = random_phrases(seed, 60)
    counts = []
    for least in (0.01, 0.2, 0.5, 0.8, 0.95):
        spans = decode(search(subwords, min_probability=least), log_probs, phrases).spans
        assert all(span.probability >= span.asked_for - 1e-6 for span in spans)
        assert all(odds(span.asked_for) >= odds(least) * 0.999 for span in spans)
        counts.append(len(spans))
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1]


@pytest.mark.parametrize("method", ["arcs", "adaptive"])
@pytest.mark.parametrize("seed", range(5))
def test_joined_lists_find_what_one_list_finds(seed, method, search, subwords):
    """Also where entities of both begin with the same token, or are the same."""
    log_probs = random_log_probs(np.random.default_rng(seed), 200, subwords.size, peak=3.0)
    phrases = random_phrases(seed, 60)
    decoder = search(subwords, min_probability=0.05, variants=[], method=method)
    joined = decoder.compile(phrases[:30]).joined(decoder.compile(phrases[20:]))
    (((one,),), ((other,),)) = (decoder.decode(log_probs[None], lists=each) for each in (decoder.compile(phrases), joined))
    assert one.text == other.text and one.spans == other.spans
    assert {phrases.index(span.entity) < 30 for span in one.spans} == {True, False}


def test_weights_decide_between_entities(search, subwords):
    log_probs = speak(subwords, ["▁b", "o", "n", "e"], {2: ("t", 0.3)})
    for weights, winner in (([9.0, 1.0], "bone"), ([1.0, 9.0], "bore")):
        assert decode(search(subwords), log_probs, ["bone", "bore"], weights).text == winner


def test_common_words_are_weighed_in(search, subwords, tmp_path):
    (tmp_path / "text.txt").write_text("the barn is a barn\n")
    evidence = weights_file(tmp_path / "common.json", constant=2, common=-1)
    log_probs = speak(subwords, BARN, HEARD)
    for frequencies, text in ((str(tmp_path / "text.txt"), "no barn a"), (None, "no born a")):
        decoder = search(subwords, evidence_file=evidence, word_frequencies=frequencies)
        assert decode(decoder, log_probs, ["born"]).text == text


def test_common_words_weigh_less_if_a_name_is_heard_as_several(search, subwords, tmp_path):
    (tmp_path / "text.txt").write_text("a to barn n\n")
    more = {}
    for pieces, heard, phrase in ((["▁to", "n"], {1: ("▁n", 0.7)}, "ton"), (BARN, HEARD, "born")):
        found = []
        for weight in (0.0, 0.05):
            evidence = weights_file(tmp_path / f"{weight}.json", constant=4, common_and_sure=-0.1, common_and_more=weight)
            decoder = search(subwords, evidence_file=evidence, word_frequencies=str(tmp_path / "text.txt"))
            found.append(odds(probability(decoder, speak(subwords, pieces, heard), phrase)))
        more[phrase] = np.log(found[1] / found[0])
    frequency = np.log10(1e9 / SHORTEST_TEXT)  # on the Zipf scale, of what occurs once in so short a text
    assert more["ton"] == pytest.approx(0.05 * 0.7 * frequency, rel=1e-3) and more["born"] == pytest.approx(0, abs=1e-5)


def test_words_that_belong_together_are_weighed_in(search, subwords, tmp_path):
    """In what is written, not elsewhere; in a language of which nothing is known, all are typical."""
    log_probs = speak(subwords, BARN, HEARD)
    likely = {}
    for name, text in {"pair": "no barn\n" * 2, "other": "no\nbarn a\n" * 2, "none": "no\nbarn\na\n"}.items():
        (tmp_path / name).write_text(text)
        for weight in (0.0, -1.0):
            evidence = weights_file(tmp_path / f"{weight}.json", constant=1, tie=weight)
            for source in (str(tmp_path / name), "de"):
                decoder = search(subwords, evidence_file=evidence, word_frequencies=source, min_probability=1e-3)
                likely[source, weight] = odds(probability(decoder, log_probs, "born"))
    parted = {source: np.log(likely[source, 0.0] / likely[source, -1.0]) for source, _ in likely}
    assert parted.pop("de") == pytest.approx(TYPICAL, rel=1e-3)
    assert list(parted.values()) == pytest.approx([np.log(4 / 2), np.log(6 * 2 / 4), 0], abs=1e-3)


def test_words_that_belong_together_are_at_risk(search, subwords, tmp_path):
    for text, written in (("no barn\n" * 2, "no barn a"), ("no\nbarn\n" * 2, "no born a")):
        (tmp_path / written).write_text(text)
        evidence = weights_file(tmp_path / "risk.json", risk={"constant": -30, "tie": 100}, constant=0.3)
        decoder = search(subwords, evidence_file=evidence, word_frequencies=str(tmp_path / written))
        for adapter in (None, speak(subwords, BARN, HEARD)):
            heard = speak(subwords, BARN) if adapter is not None else speak(subwords, BARN, HEARD)
            assert decode(decoder, heard, ["born"], plain=adapter).text == written


# ---- endings and marks


@pytest.mark.parametrize(
    ("pieces", "unsure", "text"),
    [
        (["▁b", "o", "r", "n", "'", "s", "▁a"], 1, "born's a"),
        (["▁no", "▁b", "o", "r", "n", "'", "s"], 2, "no born's"),
        (["▁b", "o", "r", "n", "'", "s", ",", "▁a"], 3, "born's, a"),
        (["▁b", "o", "r", "n", ",", "▁no"], 1, "born, no"),
        (["▁b", "o", "r", "n", ".", '"', "▁a"], 3, 'born." a'),
        (["▁b", "o", "r", "n", "?"], 0, "born?"),
        (["▁b", "o", "r", "n", "-", "t", "o"], 1, "born-to"),
        (["▁(", "b", "o", "r", "n", ",", "▁a"], 2, "(born, a"),
        (["▁no", "-", "b", "o", "r", "n"], 3, "no-born"),
        (["▁'", "b", "o", "r", "n", "'", "▁a"], 2, "'born' a"),
        (["▁a", "▁", "b", "o", "r", "n", "▁a"], 3, "a born a"),
        (["b", "o", "r", "n", "▁a"], 1, "born a"),
    ],
)
def test_marks_and_endings_beside_an_entity_stay(pieces, unsure, text, search, marked):
    log_probs = speak(marked, pieces, {unsure: ("e", 0.7)})
    transcript = decode(search(marked), log_probs, ["born"])
    assert transcript.text == text
    check_spans(marked, transcript, 0.5)
    assert len(transcript.spans) == 1


@pytest.mark.parametrize(
    ("pieces", "phrase"),
    [
        (["▁a", "▁b", "o", "r", "n", "e", "▁a"], "born"),
        (["▁a", "▁b", "o", "r", "n", "s"], "born"),
        (["▁a", "b", "o", "r", "n", "▁a"], "born"),
        (["▁no", "▁bo", "r", "n", "er", "s", ","], "borner"),
        (["▁(", "a", "b", "o", "r", "n", "'", "s"], "born"),
        (["▁a", "'", "b", "o", "r", "n"], "born"),  # no boundary after an apostrophe within a word
        (["▁to", "n", "o", "b", "▁no"], "ton"),
        (["▁b", "e", "n", "o", "b", "▁a"], "eno"),
    ],
)
@pytest.mark.parametrize("least", [0.5, 1e-6])
def test_an_entity_within_a_longer_word_is_none(pieces, phrase, least, search, marked):
    log_probs = speak(marked, pieces, sure=0.6)
    decoder = search(marked, min_probability=least)
    transcript = decode(decoder, log_probs, [phrase])
    assert (transcript.text, transcript.spans) == (greedy_text(decoder, log_probs), ())


@pytest.mark.parametrize(
    ("longer", "listed"), [("peanuts", "peanut"), ("peanuts", "nut"), ("peanuts", "pea"), ("nuts", "nut")]
)
def test_peanuts(longer, listed):
    """With the package's own weights, in a character model, and though the model is not sure."""
    vocabulary = character_vocabulary([" ", *"aenpstu"])
    log_probs = speak(vocabulary, list(f"a▁{longer}▁a"), sure=0.6)
    decoder = BiasedBeamSearch(vocabulary, DecodingOptions(min_probability=0.01))
    assert decode(decoder, log_probs, [listed]).text == f"a {longer} a"


def test_a_longer_word_in_another_case_is_no_entity(search, cased):
    log_probs = speak(cased, ["▁a", "▁B", "o", "r", "n", "e", "▁a"], sure=0.6)
    assert decode(search(cased, min_probability=1e-6), log_probs, ["born"]).text == "a Borne a"


@pytest.mark.parametrize(
    ("pieces", "wavers", "ordinary", "text"),
    [  # greedy decoding runs two words together, one of which is heard as "barn"
        (["▁to", "b", "o", "r", "n"], {1: "▁b"}, None, "to born"),
        (["▁to", "b", "o", "r", "n"], {1: "▁b"}, "to", "to born"),
        (["▁to", "b", "o", "r", "n"], {1: "▁b"}, "no", "born"),
        (["▁a", "b", "o", "r", "n"], {1: "▁b"}, "a", "born"),  # one letter is none
        (["▁b", "o", "r", "n", "a", "r"], {4: "▁a"}, None, "born ar"),
        (["▁b", "o", "r", "n", "a", "r"], {4: "▁a"}, "ar", "born ar"),
        (["▁b", "o", "r", "n", "a", "r"], {4: "▁a"}, "no", "born"),
        (["▁b", "o", "r", "n", "a", "r"], {4: "▁t"}, "tr", "born"),  # not what is heard there
    ],
)
def test_what_an_arc_leaves_of_a_word_stays_if_it_is_one(pieces, wavers, ordinary, text, search, subwords, tmp_path):
    log_probs = speak(subwords, pieces, {pieces.index("o"): ("a", 0.6)})
    for k, other in wavers.items():
        log_probs[2 * k, [subwords.pieces.index(pieces[k]), subwords.pieces.index(other)]] = np.log([0.5, 0.4])
    (tmp_path / "text.txt").write_text(f"{ordinary}\n")
    decoder = search(subwords, word_frequencies=str(tmp_path / "text.txt") if ordinary else None)
    assert greedy_text(decoder, log_probs) == "".join(pieces).replace("▁", "").replace("born", "barn")
    transcript = decode(decoder, log_probs, ["born"])
    assert transcript.text == text
    check_spans(subwords, transcript, 0.5)


@pytest.mark.parametrize(("frequency", "text"), [(2.9, "born"), (3.0, "to born")])
def test_a_word_that_may_be_left_is_as_frequent_as_one_in_a_million(frequency, text, search, subwords, monkeypatch):
    monkeypatch.setattr(
        "nemo_bias.decoder.candidates.word_frequencies", lambda source: lambda word: frequency * (word == "to")
    )
    log_probs = speak(subwords, ["▁to", "b", "o", "r", "n"], {2: ("a", 0.6)})
    log_probs[2, [subwords.pieces.index("b"), subwords.pieces.index("▁b")]] = np.log([0.5, 0.4])
    assert decode(search(subwords, word_frequencies="en"), log_probs, ["born"]).text == text


def test_a_space_of_its_own_stays_before_an_entity(search, marked):
    log_probs = speak(marked, ["▁no", ",", "▁", "b", "o", "r", "n"], {4: ("a", 0.6)})
    assert decode(search(marked), log_probs, ["born"]).text == "no, born"


def unsure(vocabulary, *frames: tuple[str, str]) -> np.ndarray:
    """Log-probs [T, V] that waver between two pieces in each frame, slightly for the first one."""
    probabilities = np.full((len(frames), vocabulary.size), 1e-4)
    for row, (first, second) in zip(probabilities, frames, strict=True):
        row[vocabulary.pieces.index(second)] = 0.45
        row[vocabulary.pieces.index(first)] = 0.55
    return np.log(probabilities).astype(np.float32)


def test_words_that_an_arc_only_cuts_stay(search, subwords):
    """Their other frames are theirs; but a word that stands there alone gives way."""
    a, born = ("▁a", "▁a"), [("▁b", "▁b"), ("a", "o"), ("r", "r"), ("n", "n")]
    before = unsure(subwords, a, ("▁a", "▁b"), ("▁to", "o"), *born[2:])
    after = unsure(subwords, *born[:3], ("▁a", "n"), a)
    both = unsure(subwords, a, ("▁a", "▁b"), ("▁to", "o"), ("r", "r"), ("▁a", "n"), a)
    alone = unsure(subwords, ("▁n", "▁n"), ("▁n", "▁to"))
    decoder = search(subwords, min_probability=0.01)
    for log_probs, heard, text in (
        (before, "a torn", "a born"),
        (after, "bar a", "born a"),
        (both, "a tor a", "a born a"),
        (alone, "n", "to"),
    ):
        assert greedy_text(decoder, log_probs) == heard
        transcript = decode(decoder, log_probs, ["born", "to"])
        assert transcript.text == text
        check_spans(subwords, transcript, 0.01)


def test_words_and_rests_beside_two_entities(search, subwords, tmp_path):
    """Of "toab a torn" the last "a" is only cut by "born"; of "tobst abarn" the "a" is no word."""
    (tmp_path / "text.txt").write_text("no\n")
    a, toast = ("▁a", "▁a"), [("▁to", "▁to"), ("a", "a"), ("b", "st")]
    cut = unsure(subwords, *toast, a, ("▁a", "▁b"), ("▁to", "o"), ("r", "r"), ("n", "n"))
    rest = unsure(subwords, *toast, a, ("b", "▁b"), ("a", "o"), ("r", "r"), ("n", "n"))
    decoder = search(subwords, min_probability=0.01, word_frequencies=str(tmp_path / "text.txt"))
    for log_probs, heard, text in ((cut, "toab a torn", "toast a born"), (rest, "toab abarn", "toast born")):
        assert greedy_text(decoder, log_probs) == heard
        transcript = decode(decoder, log_probs, ["toast", "born"])
        assert transcript.text == text
        check_spans(subwords, transcript, 0.01)


def test_neighbouring_entities_stay_apart(search, marked):
    """Each may stand alone, thanks to what the other would take away: `borneno` holds neither."""
    born = [(piece, piece) for piece in ("▁b", "o", "r", "n")]
    log_probs = unsure(marked, *born, (",", "e"), ("▁t", "n"), ("o", "o"))
    decoder = search(marked)
    assert greedy_text(decoder, log_probs) == "born, to"
    assert decode(decoder, log_probs, ["borne"]).text == "borne to"
    assert decode(decoder, log_probs, ["no"]).text == "born,no"
    both = decode(decoder, log_probs, ["borne", "no"])
    assert (both.text, len(both.spans)) == ("borne to", 1)


def test_the_same_token_twice_in_a_row_is_one(search, subwords):
    """Two entities side by side are not both written if the second begins with the token that ends the first."""
    transcript = decode(search(subwords), unsure(subwords, ("▁n", "▁a"), ("▁b", "▁a")), ["a"])
    assert len(transcript.spans) == 1
    check_spans(subwords, transcript, 0.5)


# ---- case


@pytest.mark.parametrize(
    ("pieces", "listed", "text"),
    [
        (["▁a", "▁B", "o", "r", "n", "▁a"], ["born"], "a born a"),
        (["▁a", "▁B", "O", "R", "N", "▁a"], ["born"], "a born a"),
        (["▁a", "▁b", "o", "r", "n", "▁a"], ["Born"], "a Born a"),
        (["▁a", "▁b", "o", "r", "n", "▁a"], ["BORN"], "a BORN a"),
        (["▁a", "▁B", "o", "r", "n", "▁N", "o"], ["born no"], "a born no"),
        (["▁a", "▁B", "o", "r", "n", "▁a"], ["born", "Born"], "a Born a"),
        (["▁a", "▁B", "O", "R", "N", "▁a"], ["born", "BORN"], "a BORN a"),
        (["▁a", "▁b", "o", "r", "n", "▁a"], ["born", "BORN"], "a born a"),
        (["▁B", "o", "r", "n", "▁a"], ["born"], "Born a"),  # at the start of a sentence
        (["▁a", ".", "▁B", "o", "r", "n"], ["born"], "a. Born"),
        (["▁a", "?", "▁B", "o", "r", "n"], ["born"], "a? Born"),
        (["▁a", ",", "▁B", "o", "r", "n"], ["born"], "a, born"),
        (["▁B", "O", "R", "N", "▁a"], ["born"], "born a"),
    ],
)
@pytest.mark.parametrize("heard", [False, True])
def test_case(pieces, listed, text, heard, search, cased):
    """An entity is found in any case and written as listed; a form that is listed itself wins."""
    unsure = next(k for k, piece in enumerate(pieces) if piece in ("r", "R"))
    log_probs = speak(cased, pieces, {unsure: ("t", 0.7)} if heard else None)
    transcript = decode(search(cased), log_probs, listed)
    assert transcript.text == text
    check_spans(cased, transcript, 0.5)
    assert len(transcript.spans) == 1


@pytest.mark.parametrize(
    ("spoken", "text"),
    [("a Born a", "a born a"), ("Born a", "Born a"), ("a. Born's a", "a. Born's a"), ("a, Born", "a, born")],
)
def test_case_in_character_models(spoken, text, search):
    """The space before a word is not the start of a sentence."""
    vocabulary = character_vocabulary([" ", *"abnorsB',."])
    log_probs = speak(vocabulary, list(spoken.replace(" ", "▁")))
    assert decode(search(vocabulary), log_probs, ["born"]).text == text


def test_models_of_one_case_have_no_other_forms(search, subwords):
    assert search(subwords).compile(["born", "to be"]).forms == ("born", "to be")


# ---- scripts


@pytest.mark.parametrize("pieces", [["は", "東", "京", "に"], ["▁", "は", "東", "京", "に"]])
@pytest.mark.parametrize("word_start", [(), ("▁",)])
def test_chinese_and_japanese(pieces, word_start, search):
    if "▁" in pieces and not word_start:
        pieces = pieces[1:]
    characters = vocabulary(*word_start, *"東凍京都には")
    log_probs = speak(characters, pieces, {pieces.index("東"): ("凍", 0.5)})
    decoder = search(characters)
    assert greedy_text(decoder, log_probs) == "は凍京に"
    transcript = decode(decoder, log_probs, ["京都", "東京"])
    assert (transcript.text, [s.phrase for s in transcript.spans]) == ("は東京に", ["東京"])


def test_thai_entities_keep_their_vowels(search):
    """A combining vowel belongs to the letter before it: `ก` is not found in `กี`, but `กีข` is."""
    letters = vocabulary("▁", *THAI)
    log_probs = speak(letters, list("นกีขน"), {1: ("ค", 0.5)})
    decoder = search(letters)
    assert decode(decoder, log_probs, ["กีข"]).text == "นกีขน"
    assert decode(decoder, log_probs, ["ก"]).spans == ()
    assert decode(decoder, speak(letters, list("นกขน")), ["ก"]).spans[0].phrase == "ก"


def test_word_pieces(search):
    """Every token that begins a word has ``▁``; those that go on have none."""
    pieces = vocabulary(*WORDPIECES)
    log_probs = speak(pieces, ["▁a", "▁bo", "r", "n", "▁t", "o"], {2: ("er", 0.7)})
    decoder = search(pieces)
    assert greedy_text(decoder, log_probs) == "a boern to"
    assert decode(decoder, log_probs, ["born", "rn", "n"]).text == "a born to"
    assert decode(decoder, log_probs, ["rn", "n"]).spans == ()


def test_character_models(search, characters):
    log_probs = speak(characters, list("toast▁no▁born"), {2: ("e", 0.7), 10: ("a", 0.7)})
    transcript = decode(search(characters), log_probs, ["toast", "born", "orn"])
    assert (transcript.text, [s.phrase for s in transcript.spans]) == ("toast no born", ["toast", "born"])


# ---- with an adapter


def test_only_entities_come_from_the_biased_log_probs(search, subwords):
    plain = speak(subwords, BARN, HEARD)
    biased = speak(subwords, ["▁to", "▁b", "o", "r", "n", "▁t"])  # sure of the entity, and wrong elsewhere
    transcript = decode(search(subwords), biased, ["born"], plain=plain)
    assert transcript.text == "no born a"
    assert transcript.path[[0, 10]].tolist() == plain.argmax(axis=1)[[0, 10]].tolist()


def test_an_entity_that_only_the_adapter_hears(search, subwords):
    plain = speak(subwords, ["▁no", "▁b", "a", "st", "n", "▁a"])
    biased = speak(subwords, BARN)
    decoder = search(subwords)
    assert decode(decoder, plain, ["born"]).text == "no bastn a"
    assert decode(decoder, biased, ["born"], plain=plain).text == "no born a"


def test_with_nothing_found_the_output_is_plain(search, subwords):
    plain, biased = speak(subwords, BARN, HEARD), speak(subwords, ["▁to", "▁b", "e", "r", "n", "▁t"])
    transcript = decode(search(subwords), biased, ["toast"], plain=plain)
    assert (transcript.text, transcript.spans) == ("no barn a", ())
    assert transcript.path.tolist() == plain.argmax(axis=1).tolist()


def test_method_greedy_writes_the_plain_text_too(search, subwords):
    plain, biased = speak(subwords, BARN, HEARD), speak(subwords, BARN)
    assert decode(search(subwords, method="greedy"), biased, ["born"], plain=plain).text == "no barn a"


def test_an_adapter_may_not_write_into_a_sure_longer_word(search, subwords):
    plain = speak(subwords, ["▁b", "o", "r", "n", "e"])
    biased = plain.copy()
    biased[8] = plain[9]  # a blank where the plain log-probs have `e`
    assert decode(search(subwords), biased, ["born"], plain=plain).text == "borne"


def test_known_labels_decide_between_equal_log_probs(search, subwords):
    log_probs = speak(subwords, BARN)
    a, e = subwords.pieces.index("a"), subwords.pieces.index("e")
    log_probs[4, [a, e]] = log_probs[4].max() + 1
    labels = log_probs.argmax(axis=1)
    labels[4] = e
    decoder = search(subwords)
    assert greedy_text(decoder, log_probs) == "no barn a"
    assert decode(decoder, log_probs, labels=[labels]).text == "no bern a"
    assert decode(decoder, log_probs, ["toast"], labels=[labels]).text == "no bern a"


# ---- n-best lists


def test_nbest_differs_by_one_entity(search, subwords):
    pieces = [*BARN, "▁to", "a", "st"]
    log_probs = speak(subwords, pieces, {2: ("a", 0.7), 8: ("b", 0.6)})
    decoder = search(subwords)
    lists = decoder.compile(["born", "toast"])
    found = decoder.decode(log_probs[None], lists=lists, nbest=10)[0]
    assert [t.text for t in found] == ["no born a toast", "no barn a toast", "no born a toab"]
    assert found[0].score == 0
    p = {s.phrase: s.probability for s in found[0].spans}
    assert [-t.score for t in found[1:]] == pytest.approx([np.log(odds(p["born"])), np.log(odds(p["toast"]))], rel=1e-3)
    assert [t.text for t in decoder.decode(log_probs[None], lists=lists, nbest=2)[0]] == [t.text for t in found[:2]]


def test_nbest_tries_what_is_not_likely_enough(search, subwords):
    log_probs = speak(subwords, BARN, HEARD)
    decoder = search(subwords, min_probability=0.99)
    found = decoder.decode(log_probs[None], lists=decoder.compile(["born"]), nbest=2)[0]
    assert [t.text for t in found] == ["no barn a", "no born a"]
    assert found[1].score < 0


@pytest.mark.parametrize("name", VOCABULARIES)
def test_nbest_of_random_utterances(name, search):
    vocabulary, alphabet = VOCABULARIES[name]
    alternatives = 0
    for seed in range(10):
        draw = random.Random(seed)
        decoder = search(vocabulary)
        entities = decoder.compile(some_phrases(draw, alphabet, 40))
        log_probs = random_log_probs(np.random.default_rng(seed), 20, vocabulary.size, peak=3.0)
        found = decoder.decode(log_probs[None], lists=entities, nbest=5)[0]
        assert found[0].text == decoder.decode(log_probs[None], lists=entities)[0][0].text
        assert len({t.text for t in found}) == len(found) <= 5
        assert [t.score for t in found] == sorted((t.score for t in found), reverse=True)
        for transcript in found:
            check_spans(vocabulary, transcript, None)
        alternatives += len(found) - 1
    assert alternatives > 10


# ---- batches


def outcome(transcript):
    return transcript.text, transcript.tokens, transcript.score, transcript.spans, transcript.path.tolist()


SCORED = {"constant": 4, "gap": -1, "loss_per_character": -1, "tie": -0.5, "phone_loss": -0.2}  # with facts of all kinds
BATCHES = {
    "arcs": {},
    "looked up": {"pronunciations": "en", "word_frequencies": "en"},
    "own weights": {"pronunciations": "en", "word_frequencies": "en", "evidence_file": None},
    "language model": {"lm_file": "words.arpa", "word_frequencies": "en", "evidence_file": None},
    "adaptive": {"method": "adaptive"},
}


@pytest.mark.parametrize("options", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("heard", [(), ("plain",), ("phones",), ("plain", "phones")], ids=" ".join)
@pytest.mark.parametrize("vocabulary", ["subwords", "characters"])
def test_an_utterance_does_not_depend_on_its_batch(vocabulary, heard, options, subwords, tmp_path):
    """Many are short; most fill the batch, so that the next follows at once, some are empty; and some share a list."""
    vocabulary = subwords if vocabulary == "subwords" else character_vocabulary([" ", *"abenorst"])
    chosen = {"evidence_file": weights_file(tmp_path / "evidence.json", **SCORED), "word_frequencies": None, "variants": []}
    chosen |= {"pronunciations": None, "min_probability": 0.01, **options}
    if "lm_file" in options:
        pytest.importorskip("kenlm")
        chosen["lm_file"] = str(tmp_path / "words.arpa")
        words = ["<s>", "</s>", "<unk>", "barn", "born", "toast", "best", "tern", "nest", "boat", "to", "on"]
        unigrams = "".join(f"-{1 + k / 10:.1f}\t{word}\n" for k, word in enumerate(words))
        head, bigrams = f"\\data\\\nngram 1={len(words)}\nngram 2=1\n", "-0.1\tto\tbest\n"
        text = f"{head}\n\\1-grams:\n{unigrams}\n\\2-grams:\n{bigrams}\n\\end\\\n"
        (tmp_path / "words.arpa").write_text(text)
    decoder, in_threads = (BiasedBeamSearch(vocabulary, DecodingOptions(**chosen), threads=n) for n in (1, 3))
    phrases = [*random_phrases(1, 40), *"abenorst"]
    shared, suppressing = decoder.compile(phrases), decoder.compile([*phrases, "ab"], [*[1.0] * len(phrases), -1.0])
    lists = [(shared, shared, suppressing, shared, None)[b % 5] for b in range(40)]
    rng = np.random.default_rng(3)
    lengths = np.where(rng.random(40) < 0.2, rng.integers(0, 11, 40), 10)
    log_probs, other = (np.stack([random_log_probs(rng, 10, vocabulary.size, 3.0) for _ in range(40)]) for _ in range(2))
    log_probs[5], log_probs[12] = -np.log(vocabulary.size), log_probs[11]  # not to be understood, and twice the same
    plain = 0.5 * log_probs + 0.5 * other
    plain -= np.logaddexp.reduce(plain, axis=2, keepdims=True)
    phones = np.stack([random_log_probs(rng, 20, 40, 3.0) for _ in range(40)])
    more = {name: {"plain": plain, "phones": phones}[name] for name in heard}
    context = log_probs, lengths, lists, 3
    together, threaded = decoder.decode(*context, **more), in_threads.decode(*context, **more)
    assert sum(len(t[0].spans) for t in together) > 3
    for b in range(40):
        ends = {"plain": lengths[b], "phones": 2 * lengths[b]}
        own = {name: array[b : b + 1, : ends[name]] for name, array in more.items()}
        alone = [outcome(t) for t in decoder.decode(log_probs[b : b + 1, : lengths[b]], lists=lists[b], nbest=3, **own)[0]]
        assert [outcome(t) for t in together[b]] == alone == [outcome(t) for t in threaded[b]]


@pytest.mark.parametrize("biased", [False, True], ids=["", "biased"])
def test_the_evidence_is_that_of_decoding(biased, subwords):
    log_probs = speak(subwords, ["▁no", "▁bo", "r", "n", "e", "st", "▁a"], {3: ("s", 0.5)})
    plain = speak(subwords, ["▁no", "▁bo", "r", "n", "e", "st", "▁a"], {3: ("s", 0.9)}) if biased else None
    decoder = BiasedBeamSearch(subwords)
    lists = decoder.compile(["bornest", "toast"])
    (span,) = decoder.decode(log_probs[None], lists=lists, plain=plain if plain is None else plain[None])[0][0].spans
    found = decoder.evidence(log_probs, lists, plain).found
    assert odds(span.probability) == pytest.approx(np.exp(found.log_odds[found.shown.index("bornest")]), rel=1e-4)


def test_one_list_serves_all_utterances(search, subwords):
    decoder = search(subwords)
    log_probs = np.stack([speak(subwords, BARN, HEARD), speak(subwords, BARN)])
    texts = [t[0].text for t in decoder.decode(log_probs, lists=decoder.compile(["born"]))]
    assert texts == ["no born a", "no born a"]


def test_joined_lists_find_what_either_finds(search, subwords):
    log_probs = speak(subwords, ["▁b", "o", "r", "n", "▁to", "a", "st"], {1: ("a", 0.7), 5: ("e", 0.7)})
    decoder = search(subwords)
    both = decoder.compile(["born", "tar"]).joined(decoder.compile(["toast"]))
    (transcript,) = decoder.decode(log_probs[None], lists=both)[0]
    assert [s.phrase for s in transcript.spans] == ["born", "toast"]


@pytest.mark.parametrize("weights", [(0.5, 3.0), (3.0, 0.5)])
def test_a_phrase_of_both_joined_lists_counts_once(weights, search, subwords, tmp_path):
    """With its better weight, and it is not its own rival."""
    evidence = weights_file(tmp_path / "rivals.json", constant=1, rivals=-1)
    log_probs = speak(subwords, BARN, HEARD)
    decoder = search(subwords, evidence_file=evidence)
    first, second = (decoder.compile(["toast", "born"], [1.0, weight]) for weight in weights)
    (transcript,) = decoder.decode(log_probs[None], lists=first.joined(second))[0]
    assert odds(transcript.spans[0].probability) == pytest.approx(3 * np.e, rel=1e-4)


def test_compiled_lists_tell_what_the_tokens_can_write(search, subwords):
    first, second = search(subwords).compile(["born", "xylon"]), search(subwords).compile(["xylon", "born", "tar"])
    assert first.written.tolist() == [True, False]
    assert first.joined(second).written.tolist() == [True, False, False, True, True]


# ---- method adaptive


def test_method_adaptive(search, subwords):
    log_probs = speak(subwords, BARN, HEARD)
    decoder = search(subwords, method="adaptive", boost=3.0)
    best, second = decoder.decode(log_probs[None], lists=decoder.compile(["born"]), nbest=2)[0]
    assert best.text == "no born a"
    assert best.score > second.score
    assert [(s.phrase, s.start, s.end, s.probability) for s in best.spans] == [("born", 2, 8, None)]
    assert collapse(best.path, subwords.blank) == best.tokens


def test_method_adaptive_without_a_list_is_greedy(search, subwords):
    log_probs = random_log_probs(np.random.default_rng(5), 40, subwords.size)
    assert decode(search(subwords, method="adaptive"), log_probs).path.tolist() == log_probs.argmax(axis=1).tolist()


# ---- odd input


def test_no_frames_and_one_frame(search, subwords):
    decoder = search(subwords)
    entities = decoder.compile(["a"])
    log_probs = speak(subwords, ["▁a"])[:1]
    (empty,), (one,) = decoder.decode(np.stack([log_probs, log_probs]), [0, 1], entities)
    assert (empty.text, empty.tokens, empty.spans, len(empty.path)) == ("", (), (), 0)
    assert (one.text, [(s.phrase, s.start, s.end) for s in one.spans]) == ("a", [("a", 0, 0)])
    assert decoder.decode(np.zeros((0, 5, subwords.size), np.float32)) == []
    assert decoder.decode(np.zeros((1, 0, subwords.size), np.float32), lists=entities)[0][0].text == ""


def test_silence(search, subwords):
    log_probs = np.full((30, subwords.size), -20.0, np.float32)
    log_probs[:, subwords.blank] = 0.0
    assert decode(search(subwords), log_probs, ["born", "a"]).text == ""


def test_impossible_tokens_are_never_taken(search, subwords, cased):
    rng = np.random.default_rng(11)
    found = 0
    for seed in range(40):
        vocabulary = (subwords, cased)[seed % 2]
        log_probs = random_log_probs(rng, 20, vocabulary.size, peak=2.0)
        log_probs[rng.random(log_probs.shape) < 0.5] = -np.inf
        log_probs[np.arange(20), rng.integers(0, vocabulary.size, 20)] = -0.5
        transcript = decode(search(vocabulary), log_probs, random_phrases(seed, 60))
        assert all(log_probs[t, label] > -np.inf for t, label in enumerate(transcript.path))
        check_spans(vocabulary, transcript, 0.5)
        found += len(transcript.spans)
    assert found > 20


@pytest.mark.parametrize(("value", "message"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "no finite log-prob")])
def test_broken_log_probs_are_refused(value, message, search, subwords):
    good = random_log_probs(np.random.default_rng(0), 10, subwords.size)[None].repeat(3, axis=0)
    broken = good.copy()
    broken[1, 4, slice(None) if value == -np.inf else 2] = value
    decoder = search(subwords)
    entities = decoder.compile(["born"])
    for arguments in ({"log_probs": broken}, {"log_probs": good, "plain": broken}, {"log_probs": broken, "plain": good}):
        with pytest.raises(ValueError, match=rf"utterance 1, frame 4 has .*{message}"):
            decoder.decode(**arguments, lists=entities)
    assert len(decoder.decode(broken, [10, 4, 10])) == 3  # beyond an utterance's length anything may stand


def test_wrong_shapes_are_refused(search, subwords):
    decoder = search(subwords)
    good = np.zeros((2, 5, subwords.size), np.float32)
    for arguments, message in (
        ((good[0],), r"log_probs has shape .*expected \[B, T, 21\]"),
        ((good[..., :-1],), r"expected \[B, T, 21\]"),
        ((good, [5, 6]), "values from 0 to 5"),
        ((good, [-1, 5]), "values from 0 to 5"),
        ((good, [5]), "expected 2 values"),
        ((good, None, [None]), "1 entity lists for 2 utterances"),
        ((good, None, None, 1, good[:, :4]), r"plain has shape \(2, 4, 21\), but log_probs"),
        ((good, None, None, 1, good[..., :-1]), r"plain has shape .*expected \[B, T, 21\]"),
    ):
        with pytest.raises(ValueError, match=message):
            decoder.decode(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method is 'magic'; choose one of arcs, adaptive, greedy"),
        ({"min_probability": 0.0}, "min_probability is 0.0; it must lie between 0 and 1"),
        ({"min_probability": 1.0}, "min_probability is 1.0"),
        ({"min_probability": -1.0}, "min_probability is -1.0"),
        ({"min_probability": float("nan")}, "min_probability is nan"),
        ({"beam_size": 0}, "beam_size is 0"),
        ({"most_tokens": 0}, "most_tokens is 0"),
        ({"boost": -1.0}, "boost is -1.0"),
        ({"weight": -1.0}, "weight is -1.0"),
        ({"weight": float("nan")}, "weight is nan"),
        ({"token_margin": -1.0}, "token_margin is -1.0"),
        (
            {"word_frequencies": "elvish"},
            "word_frequencies is 'elvish'; |word_frequencies is 'elvish': no file, and none of",
        ),
    ],
)
def test_wrong_options_are_refused(options, message, subwords):
    with pytest.raises(ValueError, match=message):
        BiasedBeamSearch(subwords, DecodingOptions(**options))


@pytest.mark.parametrize(
    ("phrases", "more"), [(["born", "born"], ()), ([""], ()), (["born"], ([1.0, 2.0],)), (["a"], (None, []))]
)
def test_lists_that_do_not_fit_are_refused(phrases, more, search, subwords):
    with pytest.raises(ValueError, match="phrases"):
        search(subwords).compile(phrases, *more)


def test_long_random_run_is_stable(search, subwords):
    """Many arcs: the memory that is set aside is enough."""
    log_probs = random_log_probs(np.random.default_rng(2), 1000, subwords.size, peak=3.0)
    transcript = decode(search(subwords, min_probability=1e-6), log_probs, random_phrases(2, 400))
    assert len(transcript.spans) > 100
    check_spans(subwords, transcript, 1e-6)
