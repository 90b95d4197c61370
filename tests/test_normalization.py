import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_bias.entities import Entity, EntityList, parse_entities
from nemo_bias.normalization import normalize_entities

LOWER = frozenset(string.ascii_lowercase + "'")
UPPER = frozenset(string.ascii_uppercase)
GERMAN = frozenset(string.ascii_lowercase + "äöüß")
RUSSIAN = frozenset("абвгдежзийклмнопрстуфхцчшщъыьэюя")
FULL = frozenset(string.ascii_letters + string.digits + ".,-'&%")

PHRASES = [
    (LOWER, "Jürgen", "jurgen"),
    (LOWER, "Jürgen Müller-Weiß & Co. 2024", "jurgen muller weiss and co twenty twenty four"),
    (LOWER, "e\u0301clair", "eclair"),
    (LOWER, "İstanbul", "istanbul"),
    (LOWER, "Ærø Łódź Đorđe", "aero lodz dorde"),
    (LOWER, "O’Brien", "o'brien"),
    (LOWER, "ﬁne Ｓony Ⅳ", "fine sony iv"),
    (LOWER, "Windows 11", "windows eleven"),
    (LOWER, "B2B", "b two b"),
    (LOWER, "R2D2", "r two d two"),
    (LOWER, "mp3", "mp three"),
    (LOWER, "1st 2nd 3RD 21st", "first second third twenty first"),
    (LOWER, "1984", "nineteen eighty four"),
    (LOWER, "2000", "two thousand"),
    (LOWER, "1066", "one thousand and sixty six"),
    (LOWER, "2100", "two thousand one hundred"),
    (LOWER, "3.5", "three point five"),
    (LOWER, "3.14", "three point one four"),
    (LOWER, "1.10.3", "one point ten point three"),
    (LOWER, "1,000,000", "one million"),
    (LOWER, "007", "zero zero seven"),
    (LOWER, "5551234567", "five five five one two three four five six seven"),
    (LOWER, "x² ٣", "x two three"),
    (LOWER, "AT&T", "at and t"),
    (LOWER, "50%", "fifty percent"),
    (LOWER, "C++", "c plus plus"),
    (LOWER, "me@home", "me at home"),
    (LOWER, "U.S.A.", "u s a"),
    (LOWER, "U.S. Steel", "u s steel"),
    (LOWER, "S.O.S", "s o s"),
    (LOWER, "J.R.R. Tolkien", "j r r tolkien"),
    (LOWER, "Dr. No", "dr no"),
    (LOWER, "snake_case and/or e-mail", "snake case and or e mail"),
    (LOWER, "amazon.com", "amazon com"),
    (LOWER, "Yahoo!", "yahoo"),
    (LOWER, "Foo™ 🎉❤️ (bar)", "foo bar"),
    (LOWER, "zero\u200bwidth", "zerowidth"),
    (UPPER, "Straße 3", "STRASSE THREE"),
    (UPPER, "O'Brien & Æsop", "OBRIEN AND AESOP"),
    (GERMAN, "Müller-Weiß é", "müller weiß e"),
    (GERMAN, "Mu\u0308ller", "müller"),
    (RUSSIAN, "Ёлка", "елка"),
    (FULL, "Jürgen O'Brien, U.S.A. 3.5%", "Jurgen O'Brien, U.S.A. 3.5%"),
    (FULL, "AT&T – “C+”", "AT&T - C plus"),
]


@pytest.mark.parametrize(("alphabet", "text", "phrase"), PHRASES)
def test_phrases(alphabet: frozenset[str], text: str, phrase: str) -> None:
    assert normalize_entities(parse_entities([text]), alphabet).phrases == (phrase,)


UNWRITABLE = [
    (LOWER, "Дом", "(characters Д о м)"),
    (LOWER, "東京 tower", "(characters 東 京)"),
    (LOWER, "½ cup", "(characters ½)"),
    (LOWER, "!!!", "no letters or digits"),
    (RUSSIAN, "Т-34", "(characters 3 4)"),
    (RUSSIAN, "Windows", "(characters W i n d o w s)"),
]


@pytest.mark.parametrize(("alphabet", "text", "reason"), UNWRITABLE)
def test_unwritable(alphabet: frozenset[str], text: str, reason: str) -> None:
    normalized = normalize_entities(parse_entities([text], "names.txt"), alphabet)
    assert normalized.phrases == ()
    (sentence,) = normalized.unwritable
    assert sentence.startswith(f'names.txt:1: "{text}" cannot be written by this model')
    assert reason in sentence
    assert sentence.endswith("; add a spelling in its alphabet")


def test_notes_name_the_changes_and_sum_up_the_case() -> None:
    entities = parse_entities(["Ada", "plain", "Jürgen", "Bob", "B-2"], "names.txt")
    normalized = normalize_entities(EntityList(entities.entities, ("a note of the list",)), LOWER)
    assert normalized.notes == (
        "a note of the list",
        'names.txt:3: "Jürgen" is matched as "jurgen" (case, accents)',
        'names.txt:5: "B-2" is matched as "b two" (case, numbers, punctuation)',
        "2 of 5 entities are matched in lower case, the only one that this model writes",
    )
    assert [item.note == "" for item in normalized.items] == [True, True, False, True, False]


def test_entities_that_are_written_alike_are_merged() -> None:
    items: list[str | Entity] = [
        Entity("Jürgen", 1.0, ("yurgen",), line=2, source="a.txt"),
        Entity("Jurgen", 3.0, ("jorgen",), line=4, source="b.txt"),
        "Ada",
    ]
    normalized = normalize_entities(parse_entities(items), LOWER)
    assert normalized.phrases == ("jurgen", "ada")
    assert normalized.weights == (3.0, 1.0)
    assert normalized.entities[0] == Entity("Jürgen", 3.0, ("yurgen", "jorgen"), line=2, source="a.txt")
    merged = (
        'b.txt:4: "Jurgen" is merged with "Jürgen" of a.txt:2, as both are written "jurgen"; the weight 1 gives way to 3'
    )
    assert merged in normalized.notes


def test_nothing_changes_for_an_alphabet_that_has_all() -> None:
    texts = ["Jürgen’s 2nd – “U.S.A.” & 50%", "B2B"]
    normalized = normalize_entities(parse_entities(texts), frozenset("".join(texts)))
    assert normalized.phrases == tuple(texts)
    assert normalized.notes == normalized.unwritable == ()


@given(
    st.lists(st.text(max_size=20), max_size=5),
    st.sampled_from([LOWER, UPPER, GERMAN, RUSSIAN, FULL, frozenset("abc"), frozenset()]),
)
def test_phrases_are_writable_and_final(texts: list[str], alphabet: frozenset[str]) -> None:
    entities = EntityList(tuple(Entity(text, line=n) for n, text in enumerate(texts, 1)))
    normalized = normalize_entities(entities, alphabet)
    assert len(set(normalized.phrases)) == len(normalized.phrases)
    for phrase in normalized.phrases:
        assert set(phrase) <= alphabet | {" "}
        assert phrase == phrase.strip() != ""
    assert normalize_entities(parse_entities(normalized.phrases), alphabet).phrases == normalized.phrases
    assert all(normalized.unwritable)


def test_a_spelling_stands_in_for_a_text_that_cannot_be_written():
    listed = parse_entities([{"text": "東京", "spellings": ["京", "Tōkyō", "to kyo"]}, {"text": "北京"}], "names")
    normalized = normalize_entities(listed, LOWER)
    assert normalized.phrases == ("tokyo",) and normalized.entities[0].text == "東京"
    assert normalized.notes[0] == 'names:1: "東京", which this model cannot write, is matched as its spelling "tokyo"'
    assert len(normalized.unwritable) == 1 and '"北京" cannot be written' in normalized.unwritable[0]


TURKISH = frozenset("abcçdefgğhıijklmnoöprsştuüvyz")


@pytest.mark.parametrize(
    ("code", "alphabet", "text", "phrase"),
    [
        ("de", GERMAN, "Boeing 747", "boeing siebenhundertsiebenundvierzig"),
        ("de", GERMAN, "1984", "neunzehnhundertvierundachtzig"),
        ("de", GERMAN, "Müller & Söhne", "müller söhne"),
        ("fr", LOWER, "80", "quatre vingts"),
        ("tr", TURKISH, "DIYARBAKIR", "dıyarbakır"),
        ("tr", TURKISH, "İstanbul 32", "istanbul otuziki"),
        ("tr", frozenset(c.upper() for c in "abcdefghjklmnoprstuvyz") | set("Iİ"), "ısparta izmir", "ISPARTA İZMİR"),
        ("en", LOWER, "İstanbul", "istanbul"),
        ("xx", LOWER, "Katharina", "katharina"),
    ],
)
def test_languages(code, alphabet, text, phrase):
    assert normalize_entities(parse_entities([text]), alphabet, code).phrases == (phrase,)


def test_a_language_without_number_words_says_so():
    (note,) = normalize_entities(parse_entities(["Boeing 747"], "names"), LOWER, "xx").unwritable
    assert note.startswith(
        'names:1: "Boeing 747" cannot be written by this model (characters 7 4, and there are no number words'
    )
    with pytest.raises(ValueError, match="language is 'english'; give its code of two or three letters, such as en or de"):
        normalize_entities(parse_entities(["747"]), LOWER, "english")
