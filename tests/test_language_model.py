"""Decoding with a word language model: against KenLM itself and slow references."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import math
import threading
from pathlib import Path

import numpy as np
import pytest

from nemo_bias.decoder.alignment import align, align_near
from nemo_bias.decoder.automaton import compile_automaton
from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.frames import doubt, near_tokens
from nemo_bias.decoder.language_model import PER_LETTER, LanguageModel
from nemo_bias.decoder.lm_evidence import WrittenSentence
from nemo_bias.decoder.lm_file import read_lm
from nemo_bias.decoder.lookup import look_up
from nemo_bias.decoder.prefix_search import SearchSettings, node_weights, prefix_search
from nemo_bias.decoder.score_cache import ScoreCache, cached_score
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.transcript import collapsed
from nemo_bias.decoder.vocabulary import Vocabulary, character_vocabulary
from nemo_bias.decoder.word_trie import walk
from nemo_bias.entities import Entity

kenlm = pytest.importorskip("kenlm")
LN10 = math.log(10)
PIECES = ("▁a", "b", "▁b", "▁", "a")
UNIGRAMS = {"<unk>": -2.5, "<s>": -99, "</s>": -0.9, "a": -0.7, "b": -1.1, "ab": -1.3, "bab": -2.0, "ba": -1.5}
BIGRAMS = {("<s>", "a"): -0.3, ("a", "b"): -0.2, ("b", "ab"): -0.4, ("ab", "</s>"): -0.3, ("bab", "a"): -0.1}


def arpa(unigrams=UNIGRAMS, bigrams=BIGRAMS) -> str:
    lines = ["\\data\\", f"ngram 1={len(unigrams)}", f"ngram 2={len(bigrams)}", "", "\\1-grams:"]
    lines += [f"{p}\t{word}\t-0.25" for word, p in unigrams.items()] + ["", "\\2-grams:"]
    return "\n".join([*lines, *(f"{p}\t{' '.join(words)}" for words, p in bigrams.items()), "", "\\end\\", ""])


@pytest.fixture(scope="module")
def lm_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "words.arpa"
    path.write_text(arpa())
    return str(path)


def lm_of(tmp_path, words, vocabulary, **options) -> LanguageModel:
    path = tmp_path / f"{abs(hash(tuple(words)))}.arpa"
    path.write_text(arpa({"<unk>": -3, "<s>": -99, "</s>": -1, **dict.fromkeys(words, -1.5)}, {}), encoding="utf-8")
    return LanguageModel(read_lm(str(path)), vocabulary, 1.0, 0.0, options.get("oov_boost", -2.0))


def search(log_probs, vocabulary, lm, beam=8, margin=30.0, most=48):
    best = log_probs.max(axis=1)
    near = near_tokens(log_probs, best, vocabulary.blank, margin, most)
    settings = SearchSettings(vocabulary.blank, vocabulary.boundaries, beam, margin, 30.0, 0.0, 0.5, True)
    automaton, none = compile_automaton([], vocabulary), np.zeros(0, np.float32)
    found = prefix_search(log_probs, best, near, settings, automaton, none, node_weights(automaton, none), lm)
    tokens = [found.tokens[a:b] for a, b in itertools.pairwise(found.first_token)]
    return [(tuple(t.tolist()), float(m), float(s)) for t, m, s in zip(tokens, found.mass, found.language, strict=True)]


def random_log_probs(seed, frames, width, peak=1.5):
    raw = peak * np.random.default_rng(seed).normal(size=(frames, width))
    return (raw - np.logaddexp.reduce(raw, axis=1, keepdims=True)).astype(np.float32)


# ---- the slow reference: it knows nothing of the cache, the trie and compiled code, and asks KenLM itself


def slow_language(model, text, weight, bonus, unknown, end=True):
    """What KenLM says of a text, word by word."""
    null, state, total = kenlm.State(), kenlm.State(), 0.0
    model.NullContextWrite(null)
    model.BeginSentenceWrite(state)
    unk = model.BaseScore(null, "<unk>", kenlm.State())
    for word in text.split():
        out = kenlm.State()
        score = model.BaseScore(state, word, out) * LN10
        own = score + PER_LETTER * len(word) if word in model else score - unk * LN10 + unknown
        total += weight * own + bonus
        state = out
    return total + (weight * model.BaseScore(state, "</s>", kenlm.State()) * LN10 if end else 0.0)


def slow_foreseen(model, text, vocabulary_words, weight, bonus, unknown):
    """The same of a prefix, whose last word has only begun."""
    head, _, last = text.rpartition(" ")
    if not last:
        return slow_language(model, head, weight, bonus, unknown, end=False)
    null = kenlm.State()
    model.NullContextWrite(null)
    possible = [w for w in vocabulary_words if w.startswith(last)]
    counts = [model.BaseScore(null, w, kenlm.State()) * LN10 + PER_LETTER * len(w) for w in possible]
    return slow_language(model, head, weight, bonus, unknown, end=False) + weight * max([unknown, *counts]) + bonus


def slow_future(model, text, vocabulary_words):
    """What of a prefix counts for all that follows: KenLM's state before its last word, and what that word may become."""
    state, out = kenlm.State(), kenlm.State()
    model.BeginSentenceWrite(state)
    head, _, last = text.rpartition(" ")
    for word in head.split():
        model.BaseScore(state, word, out)
        state, out = out, kenlm.State()
    return state, last if any(word.startswith(last) for word in vocabulary_words) else "?"


def slow_search(log_probs, vocabulary, model, words, beam, weight, bonus, unknown):
    """Prefix beam search in dictionaries."""
    blank = vocabulary.blank
    masses = {(): (0.0, -np.inf)}  # ends in blank, ends in its last token

    def written(prefix):
        return "".join(vocabulary.pieces[t] for t in prefix).replace("▁", " ")

    def rank(prefix, pair):
        return np.logaddexp(*pair) + slow_foreseen(model, written(prefix), words, weight, bonus, unknown)

    for row in log_probs.astype(np.float64):
        following: dict = {}

        def add(prefix, slot, mass, following=following):
            pair = list(following.get(prefix, (-np.inf, -np.inf)))
            pair[slot] = np.logaddexp(pair[slot], mass)
            following[prefix] = tuple(pair)

        for prefix, (in_blank, in_token) in masses.items():
            both = np.logaddexp(in_blank, in_token)
            add(prefix, 0, both + row[blank])
            for token in range(len(vocabulary.pieces)):
                if prefix and prefix[-1] == token:
                    add(prefix, 1, in_token + row[token])
                    add((*prefix, token), 1, in_blank + row[token])
                else:
                    add((*prefix, token), 1, both + row[token])
        possible = [item for item in following.items() if np.isfinite(np.logaddexp(*item[1]))]
        ranked = sorted(possible, key=lambda item: rank(*item))
        best = {slow_future(model, written(prefix), words): (prefix, pair) for prefix, pair in ranked}
        masses = dict(sorted(best.values(), key=lambda item: -rank(*item))[:beam])
    return {prefix: float(np.logaddexp(*pair)) for prefix, pair in masses.items()}


def slow_doubt(log_probs, blank):
    """Labels that the recogniser expects to be wrong, for each token of its own text."""
    probabilities = np.exp(log_probs.astype(np.float64))
    tokens = sum(label != blank for label, _ in itertools.groupby(log_probs.argmax(axis=1)))
    return min(1.0, (1 - probabilities.max(axis=1)).sum() / max(1, tokens))


def text_of(vocabulary, tokens):
    return vocabulary.text(tokens)


@pytest.mark.parametrize("beam", [4, 1000])
@pytest.mark.parametrize("seed", range(8))
def test_fusion_is_exact(seed, beam, lm_path):
    """Of a beam that holds all that differs in what may follow, and of a small one, against the slow reference."""
    vocabulary = Vocabulary(PIECES, len(PIECES))
    weight, bonus, boost = 0.7, 0.4, -1.0
    lm = LanguageModel(read_lm(lm_path), vocabulary, weight, bonus, boost)
    unknown = boost - math.log(len(lm.file.words))
    log_probs = random_log_probs(seed, 4 if beam > 100 else 12, vocabulary.size)
    found = search(log_probs, vocabulary, lm, beam)
    words = [w for w in UNIGRAMS if "<" not in w]
    doubted = slow_doubt(log_probs, vocabulary.blank)
    own = weight * doubted, bonus * doubted, unknown
    expected = slow_search(log_probs, vocabulary, kenlm.Model(lm_path), words, beam, *own)
    assert {tokens for tokens, _, _ in found} == set(expected)
    for tokens, mass, language in found:
        assert mass == pytest.approx(expected[tokens], abs=1e-4)
        said = slow_language(kenlm.Model(lm_path), text_of(vocabulary, tokens), *own)
        assert language == pytest.approx(said, abs=1e-4)
    totals = [mass + language for _, mass, language in found]
    assert totals == sorted(totals, reverse=True)


def test_score_is_kenlms_own(lm_path):
    """Of a sentence whose words are all known: what `kenlm.Model.score` says, and its letters."""
    vocabulary = Vocabulary(PIECES, len(PIECES))
    lm = LanguageModel(read_lm(lm_path), vocabulary, 1.0, 0.0, 0.0)
    log_probs = random_log_probs(3, 6, vocabulary.size)
    doubted = slow_doubt(log_probs, vocabulary.blank)
    for tokens, _, language in search(log_probs, vocabulary, lm, 500):
        text = text_of(vocabulary, tokens)
        if all(word in kenlm.Model(lm_path) for word in text.split()):
            said = kenlm.Model(lm_path).score(text) * LN10 + PER_LETTER * len(text.replace(" ", ""))
            assert language == pytest.approx(doubted * said, abs=1e-4)


@pytest.mark.parametrize("peak", [0.1, 1.0, 3.0, 10.0, 50.0])
def test_doubt(peak):
    log_probs = random_log_probs(5, 40, 6, peak)
    expected = slow_doubt(log_probs, 5)
    best = log_probs.max(axis=1)
    assert doubt(log_probs, best, near_tokens(log_probs, best, 5, 10.0, 3), 5) == pytest.approx(expected, abs=1e-5)
    assert (peak == 0.1) == (expected == 1.0) and (peak == 50.0) == (expected < 0.02)


def test_a_recogniser_without_doubt_is_believed(lm_path):
    """However much the weight, and although the same text with a bit of doubt is changed."""
    vocabulary = Vocabulary(PIECES, len(PIECES))
    lm = LanguageModel(read_lm(lm_path), vocabulary, 30.0, 0.0, -1.0)
    sure = np.full((3, vocabulary.size), -40.0, np.float32)
    sure[np.arange(3), [0, 1, 1]] = 0.0  # "ab"
    assert text_of(vocabulary, search(sure, vocabulary, lm, margin=50.0)[0][0]) == "ab"
    doubtful = np.log(np.exp(sure) + 0.1)
    doubtful -= np.logaddexp.reduce(doubtful, axis=1, keepdims=True)
    assert text_of(vocabulary, search(doubtful.astype(np.float32), vocabulary, lm, margin=50.0)[0][0]) != "ab"


def test_a_begun_word_counts_as_the_best_that_it_can_become(lm_path):
    vocabulary = character_vocabulary(" abz")
    lm = LanguageModel(read_lm(lm_path), vocabulary, 1.0, 0.0, -1.0)
    trie, unknown = lm.scores(lm.cache(), 1.0).trie, -1.0 - math.log(5)
    for begun in ("a", "b", "ab", "ba", "bab", "z", "az", "babb"):
        possible = [w for w in lm.file.words if w.startswith(begun)]
        best = max([unknown, *(UNIGRAMS[w] * LN10 + PER_LETTER * len(w) for w in possible)])
        node = walk(trie, 0, np.array([ord(c) for c in begun], np.uint32))
        assert trie.best[node] == pytest.approx(best, abs=1e-5)
        assert trie.word[node] == lm.number(begun)


@pytest.mark.parametrize(
    ("words", "said", "known"),
    [
        (["HELLO", "DON'T"], ["hello", "don't"], True),
        (["Hello", "don’t"], ["hello", "don't", "hello,"], True),
        (["dont"], ["don't"], True),
        (["well-known"], ["well-known", "wellknown"], True),
        (["hello"], ["hell", "helloo", ""], False),
    ],
)
def test_spelling_is_matched(words, said, known, tmp_path):
    lm = lm_of(tmp_path, [*words, "xyz"], character_vocabulary(" abcdefghijklmnopqrstuvwxyz',-"))
    assert [lm.number(word) >= 2 for word in said] == [known] * len(said)


def test_case_counts_where_both_write_it(tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyz"
    lm = lm_of(tmp_path, ["Polish", "polish"], character_vocabulary(" " + letters + letters.upper()))
    assert lm.number("Polish") != lm.number("polish")
    assert lm.number("POLISH") == 0


def test_cache_is_shared_by_threads():
    asked = []

    def ask(state, word):
        asked.append((state, word))
        return -0.5 * word - state, (state * 31 + word) % 5000

    cache = ScoreCache(ask, 0)
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        number = {0: 0}  # of contexts, to what they are
        context = 0
        for _ in range(3000):
            word = int(rng.integers(1, 300))
            score, following = cached_score(cache.table, context, word)
            if np.isnan(score):
                cache.fill(np.array([[context, word]], np.int32))
                score, following = cached_score(cache.table, context, word)
            if score != np.float32(-0.5 * word - number[context]):
                wrong.append((context, word, score))
            number[int(following)] = (number[context] * 31 + word) % 5000
            context = int(following)

    threads = [threading.Thread(target=work, args=(seed % 3,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(cache.table) > 2 * cache.entries - 2


def test_warm_cache_asks_nothing(lm_path):
    vocabulary = Vocabulary(PIECES, len(PIECES))
    lm = LanguageModel(read_lm(lm_path), vocabulary, 0.5, 0.0, 0.0)
    log_probs = random_log_probs(1, 30, vocabulary.size)
    first, entries = search(log_probs, vocabulary, lm), lm.cache().entries
    assert search(log_probs, vocabulary, lm) == first
    assert lm.cache().entries == entries > 0


# ---- classes


def test_listed_words_are_scored_by_their_class(lm_path):
    """An unknown word: its class after what is before, and `<unk>` before what follows."""
    vocabulary = Vocabulary(("▁a", "▁b", "▁zed", "▁ab"), 4)
    lm, model = LanguageModel(read_lm(lm_path), vocabulary, 1.0, 0.0, -3.0), kenlm.Model(lm_path)
    sentence = WrittenSentence(lm, vocabulary, [0, 1, 3])  # a b ab
    words = math.log(len(lm.file.words))
    unk = UNIGRAMS["<unk>"] * LN10
    for boost in (-1.0, 0.0, 2.0):
        gain = sentence.gain(1, 2, "zed", True, lm.chance + boost)
        expected = (model.score("a <unk> ab") - model.score("a b ab")) * LN10 - unk + boost - words
        assert gain == pytest.approx(expected, abs=1e-4)
    known = sentence.gain(1, 2, "bab", True, -20.0)  # likelier than its class: as itself
    assert known == pytest.approx((model.score("a bab ab") - model.score("a b ab")) * LN10, abs=1e-4)
    rare = sentence.gain(1, 2, "bab", True, -1.0)
    assert rare == pytest.approx((model.score("a <unk> ab") - model.score("a b ab")) * LN10 - unk - 1.0, abs=1e-4)
    two = sentence.gain(1, 2, "zed zed", True, -1.0)
    expected = (model.score("a <unk> <unk> ab") - model.score("a b ab")) * LN10 - 2 * unk - 2.0
    assert two == pytest.approx(expected, abs=1e-4)
    end = sentence.gain(2, 3, "zed", True, -1.0)
    assert end == pytest.approx((model.score("a b <unk>") - model.score("a b ab")) * LN10 - unk - 1.0, abs=1e-4)
    assert sentence.gain(3, 3, "b", True, -20.0) == pytest.approx(
        (model.score("a b ab b") - model.score("a b ab")) * LN10, abs=1e-4
    )


def test_class_boosts_reach_the_evidence(lm_path):
    vocabulary = Vocabulary(("▁a", "▁b", "▁zed", "▁ab"), 4)
    rows = np.full((3, 5), 0.02)
    for t, token in enumerate((0, 1, 3)):
        rows[t, token] = 0.6
    rows[1, 2] = 0.3
    log_probs = np.log(rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)
    found = {}
    for boost in (0.0, 3.0):
        options = DecodingOptions(lm_file=lm_path, class_boosts={"person": boost}, pronunciations=None)
        decoder = BiasedBeamSearch(vocabulary, options, threads=1)
        entities = decoder.compile(["zed"], entities=[Entity("zed", entity_class="person")])
        evidence = decoder.evidence(log_probs, entities)
        found[boost] = evidence.found.terms[0, -1]
    assert found[3.0] - found[0.0] == pytest.approx(3.0, abs=1e-4)


# ---- whole decoding


@pytest.mark.parametrize("seed", range(6))
def test_a_list_changes_names_only(seed, lm_path):
    """What no accepted entity touches is what the search with the language model writes without the list."""
    vocabulary = character_vocabulary(" ab")
    decoder = BiasedBeamSearch(vocabulary, DecodingOptions(lm_file=lm_path, pronunciations=None), threads=2)
    log_probs = np.stack([random_log_probs(10 * seed + k, 40, vocabulary.size, 2.5) for k in range(4)])
    without = decoder.decode(log_probs)
    listed = decoder.decode(log_probs, lists=decoder.compile(["abab", "bbb"]))
    for before, after in zip(without, listed, strict=True):
        changed = before[0].path != after[0].path
        for span in after[0].spans:
            changed[max(0, span.start - 8) : span.end + 9] = False
        assert not changed.any()
        assert before[0].text == after[0].text or after[0].spans


def test_unsure_words_are_looked_up_as_the_recogniser_writes_them(lm_path, monkeypatch):
    """Not as the language model does, which replaces what sounds like a name by words that it knows."""
    vocabulary, asked = Vocabulary(PIECES, len(PIECES)), []

    def note(arcs, frames, words, *context):
        asked.append(vocabulary.text(words.token.tolist()))
        return look_up(arcs, frames, words, *context)

    monkeypatch.setattr("nemo_bias.decoder.candidates.look_up", note)
    decoder = BiasedBeamSearch(vocabulary, DecodingOptions(lm_file=lm_path, word_frequencies=None), threads=1)
    entities, differ = decoder.compile(["bab ab"]), 0
    for seed in range(20):
        log_probs = random_log_probs(seed, 20, len(PIECES) + 1, 3.0)
        decoder.decode(log_probs[None], lists=entities)
        greedy = vocabulary.text(collapsed(log_probs.argmax(axis=1).astype(np.int32), vocabulary.blank))
        assert asked[-1] == greedy
        differ += decoder.decode(log_probs[None])[0][0].text != greedy
    assert len(asked) == 20 and differ > 5


def test_more_hypotheses_change_no_text_with_a_list(lm_path):
    vocabulary = Vocabulary(PIECES, len(PIECES))
    search = BiasedBeamSearch(vocabulary, DecodingOptions(lm_file=lm_path, word_frequencies=None, pronunciations=None))
    entities = search.compile(["bab"])
    for seed in range(20):
        log_probs = random_log_probs(seed, 20, vocabulary.size)[None]
        (one,), (first, *_) = (search.decode(log_probs, lists=entities, nbest=n)[0] for n in (1, 5))
        assert one.text == first.text


def test_few_known_words_are_told(tmp_path, caplog):
    vocabulary = character_vocabulary(" abcdefghijklmnopqrstuvwxyz")
    lm = lm_of(tmp_path, ["abc", "def"], vocabulary)
    note = lm.unfamiliar(["abc ghi jkl ghi"] * 60)
    assert "knows only 25% of the first 240 words" in note and "'ghi', 'jkl'" in note
    assert lm.unfamiliar(["ghi"] * 300) is None  # once
    foreign = lm_of(tmp_path, ["привет", "мир", "abc"], vocabulary)
    assert "only 33% of its words" in foreign.unwritable()
    assert lm.unwritable() is None


# ---- files


def test_file_is_not_changed(lm_path):
    before = hashlib.sha256(Path(lm_path).read_bytes()).hexdigest()
    decoder = BiasedBeamSearch(Vocabulary(PIECES, len(PIECES)), DecodingOptions(lm_file=lm_path, pronunciations=None))
    decoder.decode(random_log_probs(0, 20, len(PIECES) + 1)[None], lists=decoder.compile(["ba bab"]))
    assert hashlib.sha256(Path(lm_path).read_bytes()).hexdigest() == before


def test_compressed_files(tmp_path, lm_path):
    path = tmp_path / "words.arpa.gz"
    path.write_bytes(gzip.compress(Path(lm_path).read_bytes()))
    assert read_lm(str(path)).words == read_lm(lm_path).words == ("a", "b", "ab", "bab", "ba")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "neither an ARPA file nor"),
        (b"no model at all\n" * 2000, "neither an ARPA file nor"),
        (arpa().replace("ngram 1=8", "ngram 1=9").encode(), "it is broken: it has 8 readable unigrams"),
        (arpa()[: len(arpa()) - 30].encode(), "KenLM cannot load it"),
        (arpa().replace("\\1-grams", "\\9-grams").encode(), "neither an ARPA file nor"),
        (b"mmap lm http://kheafield.com/code format version 5\n\0" + b"\0" * 200, "no list of its words, or is broken"),
        (gzip.compress(arpa().encode())[:60], "cannot be read"),
        (arpa({"<unk>": -1, "<s>": -99, "</s>": -1, "a": -1, "b": -1, "c": -1}, {}).encode(), "single characters"),
        (arpa({"<unk>": -1, "<s>": -99, "</s>": -1, "▁ab": -1, "c": -1}, {}).encode(), "subwords, with '▁'"),
        (arpa({"<unk>": -1, "<s>": -99, "</s>": -1}, {}).encode(), "knows no words"),
    ],
)
def test_unusable_files_give_one_error(content, message, tmp_path):
    path = tmp_path / "lm.arpa"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        BiasedBeamSearch(Vocabulary(PIECES, len(PIECES)), DecodingOptions(lm_file=str(path), pronunciations=None))
    assert f"lm_file {path}" in str(error.value)
    assert "\n" not in str(error.value)


def test_order_is_checked(tmp_path):
    path = tmp_path / "seven.arpa"
    grams = "".join(f"\n\\{n}-grams:\n-1\t{' '.join(['ab'] * n)}" + ("\t-0.1\n" if n < 7 else "\n") for n in range(2, 8))
    unigrams = "\\1-grams:\n-1\t<unk>\t0\n-99\t<s>\t-0.1\n-1\t</s>\t0\n-1\tab\t-0.1\n"
    counts = "\\data\\\nngram 1=4\n" + "".join(f"ngram {n}=1\n" for n in range(2, 8))
    path.write_text(f"{counts}\n{unigrams}{grams}\n\\end\\\n")
    with pytest.raises(ValueError, match="lower order"):
        read_lm(str(path))


def test_tokens_across_words_are_refused(lm_path):
    with pytest.raises(ValueError, match="'▁a▁b' holds parts of several words"):
        LanguageModel(read_lm(lm_path), Vocabulary(("▁a", "▁a▁b"), 2), 1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lm_weight": -1.0}, "lm_weight"),
        ({"word_bonus": float("nan")}, "word_bonus"),
        ({"class_boosts": {"a": 1.0}}, "without lm_file"),
        ({"lm_file": "x", "class_boosts": {"a": float("inf")}}, "class_boosts of 'a'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        DecodingOptions(**options).check()


# ---- alignment near known frames


@pytest.mark.parametrize("seed", range(20))
def test_alignment_near_frames_is_the_best(seed):
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(seed, 20, 4, 2.0)
    tokens = rng.integers(0, 3, int(rng.integers(0, 7))).astype(np.int32)
    reached = np.sort(rng.choice(20, len(tokens), replace=False)).astype(np.int32)
    assert align_near(log_probs, tokens, reached, 3).tolist() == align(log_probs, tokens, 3).tolist()
