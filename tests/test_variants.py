"""Variants: further forms of an entity, that are found in its place and written as it is listed."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import collapse, weights_file

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.entities import Entity
from nemo_bias.variants import GENERATORS, MOST_VARIANTS, Variant, VariantSettings, generate_variants, register
from nemo_bias.variants.graphemes import read_graphemes, rules_of
from nemo_bias.variants.learning import learn_rules, pairs_of
from nemo_bias.variants.rewriting import PLAUSIBILITY, SYMBOLS, Rewriter, letter_trigrams, read_rules, write_rules
from nemo_bias.variants.variant import Registered

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ALPHABET = frozenset(LETTERS + "'")
UPPER = frozenset(LETTERS.upper() + "'")


@pytest.fixture
def letters() -> Vocabulary:
    """Letters, each also as the start of a word."""
    pieces = ("▁", *LETTERS, "'", *(f"▁{letter}" for letter in LETTERS))
    return Vocabulary(pieces, len(pieces))


@pytest.fixture
def cased() -> Vocabulary:
    """Letters of both cases."""
    pieces = ("▁", *LETTERS, *LETTERS.upper(), ".", *(f"▁{letter}" for letter in LETTERS + LETTERS.upper()))
    return Vocabulary(pieces, len(pieces))


@pytest.fixture
def search(tmp_path):
    """Makes decoders with log-odds of 3, less the nats of the gap and those of the variant."""
    evidence = weights_file(tmp_path / "evidence.json", constant=3, gap=-1, variant_cost=-1)

    def make(vocabulary, **options) -> BiasedBeamSearch:
        chosen = {"evidence_file": evidence, "word_frequencies": None, "pronunciations": None, **options}
        return BiasedBeamSearch(vocabulary, DecodingOptions(**chosen), threads=1)

    return make


def say(vocabulary: Vocabulary, text: str, blanks: int = 1) -> np.ndarray:
    """Log-probs [T, V] of words in letters, blanks after each letter; all else is unlikely."""
    rows = []
    for word in text.split():
        for k, letter in enumerate(word):
            for token in (vocabulary.pieces.index(letter if k else f"▁{letter}"), *[vocabulary.blank] * blanks):
                row = np.full(vocabulary.size, 1e-7)
                row[token] = 1 - 1e-7 * (vocabulary.size - 1)
                rows.append(row)
    return np.log(np.array(rows)).astype(np.float32)


def decode(decoder, log_probs, *entities: Entity):
    lists = decoder.compile([entity.text for entity in entities], entities=entities)
    (transcript,) = decoder.decode(log_probs[None], lists=lists)[0]
    assert collapse(transcript.path, decoder.vocabulary.blank) == transcript.tokens
    return transcript


@pytest.mark.parametrize(
    ("spoken", "listed", "spelling"),
    [
        ("i met catarina here", "katharina", "catarina"),  # more letters
        ("i met zum afeld here", "sommerfeld", "zum afeld"),  # fewer words
        ("a knife rank here", "knifrank", "knife rank"),
        ("seagate c gate", "cgate", "c gate"),  # one is no variant
        ("mcneill came", "mcneil", "mcneill"),  # the entity stands in the variant
        ("i saw catarina's hat", "katharina", "catarina"),  # the ending stays
    ],
)
@pytest.mark.parametrize("blanks", [1, 3])
def test_a_spelling_is_found_and_the_entity_written(spoken, listed, spelling, blanks, search, letters):
    log_probs = say(letters, spoken, blanks)
    entity = Entity(listed, spellings=(spelling,))
    assert decode(search(letters, variants=[]), log_probs, entity).text == spoken
    transcript = decode(search(letters), log_probs, entity)
    assert transcript.text == spoken.replace(spelling, listed)
    (span,) = transcript.spans
    assert (span.entity, span.phrase) == (listed, listed)
    assert span.probability == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-3)
    frames_before = len(spoken[: spoken.index(spelling)].replace(" ", "")) * (1 + blanks)
    frames = len(spelling.replace(" ", "")) * (1 + blanks)
    assert span.start == frames_before
    assert span.start <= span.end < span.start + frames
    inside = transcript.path[span.start : span.end + 1]
    assert letters.text(collapse(inside, letters.blank)) == listed
    greedy = log_probs.argmax(axis=1)
    outside = np.ones(len(greedy), np.bool_)
    outside[span.start : span.start + frames] = False
    assert (transcript.path[outside] == greedy[outside]).all()


def test_a_spelling_that_has_no_room_for_the_entity_is_not_taken(search, letters):
    transcript = decode(search(letters), say(letters, "a bo a", blanks=0), Entity("bartholomew", spellings=("bo",)))
    assert (transcript.text, transcript.spans) == ("a bo a", ())


def test_what_the_entity_costs_less_than_its_variant_is_the_entity(search, letters):
    (span,) = decode(search(letters), say(letters, "tom"), Entity("tom", spellings=("thom",))).spans
    assert span.probability == pytest.approx(1 / (1 + np.exp(-3)), rel=1e-3)


@pytest.mark.parametrize(
    ("spoken", "text"),
    [("i met Catarina", "i met Katharina"), ("i met catarina", "i met Katharina"), ("Catarina", "Katharina")],
)
def test_spellings_in_models_of_both_cases(spoken, text, search, cased):
    assert decode(search(cased), say(cased, spoken), Entity("Katharina", spellings=("catarina",))).text == text


def test_lists_joined_keep_their_variants(search, letters):
    decoder = search(letters)
    lists = [
        decoder.compile([text], entities=[Entity(text, spellings=(spelling,))])
        for text, spelling in (("katharina", "catarina"), ("sommerfeld", "zum afeld"))
    ]
    log_probs = say(letters, "catarina zum afeld")
    for joined in (lists[0].joined(lists[1]), lists[1].joined(lists[0])):
        assert decoder.decode(log_probs[None], lists=joined)[0][0].text == "katharina sommerfeld"


# ---- which variants there are


@pytest.fixture
def generator(monkeypatch):
    """Registers a generator `test` with given variants of every entity."""

    def add(*texts: str) -> None:
        monkeypatch.delitem(GENERATORS, "test", raising=False)

        @register("test")
        def make(settings):
            return lambda entities, phrases: [
                [Variant(text, 1.0 + k, "test") for k, text in enumerate(texts)] for _ in entities
            ]

    yield add
    GENERATORS.pop("test", None)


def generated(names, *entities: Entity, frequencies=None):
    phrases = [entity.text for entity in entities]
    return generate_variants(names, entities, phrases, VariantSettings(ALPHABET), frequencies)


def test_a_generator_is_used_with_lists_in_languages_that_it_knows(monkeypatch):
    monkeypatch.setitem(
        GENERATORS,
        "test",
        Registered(lambda _: lambda *_: [[Variant("x", 1.0, "test")]], lambda settings: settings.language != "en"),
    )
    for language, expected in (("de", ["x"]), ("en", [])):
        settings = VariantSettings(ALPHABET, language)
        ((*variants,),) = generate_variants(["test"], [Entity("ab")], ["ab"], settings).variants
        assert [variant.text for variant in variants] == expected
        assert ("test" in DecodingOptions(variants=["test"], language=language).unknown_to_language) == (not expected)


def test_what_is_something_else_is_left_out_with_a_note(generator):
    generator("tom", "thom", "bill", "dumb")
    found = generated(["test"], Entity("tom"), Entity("bill"), frequencies=zipf)
    assert [[v.text for v in own] for own in found.variants] == [["thom"], []]
    assert len(found.notes) == 5
    assert any('"bill" (test) is no variant of "tom"' in note for note in found.notes)
    assert any('"dumb" (test) is no variant of "tom", as it is common' in note for note in found.notes)


def zipf(word: str) -> float:
    return {"dumb": 4.5, "night": 5.3, "shade": 4.1}.get(word, 0.0)


def test_a_spelling_that_the_author_gives_may_be_common(generator):
    assert generated(["spellings"], Entity("tom", spellings=("dumb",)), frequencies=zipf).variants[0][0].text == "dumb"


def test_common_words_in_a_row_may_be_a_variant(generator):
    generator("night shade")
    assert generated(["test"], Entity("nightshade"), frequencies=zipf).variants[0][0].text == "night shade"


def test_at_most_so_many_variants_the_cheapest(generator):
    generator(*(f"tom{letter}" for letter in LETTERS))
    (own,) = generated(["test"], Entity("tom")).variants
    assert [v.text for v in own] == [f"tom{letter}" for letter in LETTERS[:MOST_VARIANTS]]


def test_an_unknown_generator_is_an_error(search, letters):
    with pytest.raises(ValueError, match=r"variants has 'speling'; choose among .*spellings"):
        generated(["speling"], Entity("tom"))


def test_a_name_of_a_generator_is_taken_once(generator):
    with pytest.raises(ValueError, match="'spellings' already"):
        register("spellings")(lambda settings: lambda entities, phrases: [])


def texts(variants) -> list[str]:
    return [variant.text for variant in variants]


@pytest.mark.parametrize(
    ("listed", "phrase", "said"),
    [
        ("Boeing 747", "boeing seven hundred and forty seven", ["boeing seven forty seven", "boeing seven four seven"]),
        ("911", "nine hundred and eleven", ["nine eleven", "nine one one", "nine hundred eleven"]),
        ("A380", "a three hundred and eighty", ["a three eighty"]),
        ("2024", "twenty twenty four", ["two thousand and twenty four", "two thousand twenty four"]),
        ("1500", "fifteen hundred", ["one thousand five hundred", "one thousand, five hundred".replace(",", "")]),
        ("Dr. Smith", "dr smith", ["doctor smith"]),
        ("St. Louis", "st louis", ["saint louis"]),
        ("Main St.", "main st", ["main street"]),
        ("$100 million", "one hundred million", ["one hundred million dollars"]),
        ("Henry VIII", "henry viii", ["henry the eighth"]),
        ("AT&T", "at and t", ["a t and t"]),
        ("BBC News", "bbc news", ["b b c news"]),
        ("katharina", "katharina", []),
        ("will smith", "will smith", []),
    ],
)
def test_readings(listed, phrase, said):
    found = texts(generate_variants(["readings"], [Entity(listed)], [phrase], VariantSettings(ALPHABET)).variants[0])
    assert set(said) <= set(found)
    assert phrase not in found
    assert said or not found


@pytest.mark.parametrize("name", ["readings", "inflections"])
def test_what_is_english_is_left_out_for_other_languages(name):
    listed = [Entity("BBC 747")], ["b b c sieben"]
    assert generate_variants([name], *listed, VariantSettings(ALPHABET)).variants != ((),)
    assert not texts(generate_variants([name], *listed, VariantSettings(ALPHABET, "de")).variants[0])


def test_a_number_is_written_as_it_is_said_if_there_are_no_digits(search, letters):
    lists = search(letters).compile(
        ["seven hundred and forty seven"], names=["747"], entities=[Entity("747")], weights=[1.0]
    )
    log_probs = say(letters, "a seven forty seven came", blanks=3)
    (transcript,) = search(letters).decode(log_probs[None], lists=lists)[0]
    assert transcript.text == "a seven forty seven came"
    assert (transcript.spans[0].entity, transcript.spans[0].phrase) == ("747", "seven forty seven")


def test_a_reading_is_written_as_the_entity(search, letters):
    log_probs = say(letters, "i saw doctor smith here", blanks=3)
    lists = search(letters).compile(["dr smith"], names=["Dr. Smith"], entities=[Entity("Dr. Smith")])
    (transcript,) = search(letters).decode(log_probs[None], lists=lists)[0]
    assert (transcript.text, transcript.spans[0].entity) == ("i saw dr smith here", "Dr. Smith")


@pytest.mark.parametrize(
    ("phrase", "alphabet", "forms"),
    [
        ("katharina", ALPHABET, ["katharina's", "katharinas"]),
        ("james", ALPHABET, ["jameses"]),
        ("fox", ALPHABET, ["fox's", "foxes"]),
        ("port moresby", ALPHABET, ["port moresby's", "port moresbys"]),
        ("katharina", ALPHABET - {"'"}, ["katharinas"]),
        ("東京", ALPHABET, []),
        ("KATHARINA", UPPER, ["KATHARINA'S", "KATHARINAS"]),
        ("ANN", UPPER, ["ANN'S", "ANNS"]),
    ],
)
def test_inflections(phrase, alphabet, forms):
    own = generate_variants(["inflections"], [Entity(phrase)], [phrase], VariantSettings(alphabet)).variants[0]
    assert texts(own) == forms
    assert all(variant.keeps_spelling for variant in own)


@pytest.mark.parametrize("spoken", ["the sommerfelds came", "sommerfeld's hat"])
def test_an_inflected_form_keeps_its_spelling(spoken, search, letters):
    form = next(word for word in spoken.split() if word.startswith("sommer"))
    log_probs = say(letters, spoken.replace("eld", "elt"))
    frame = 2 * spoken.replace(" ", "").index("eld") + 4
    log_probs[frame, letters.pieces.index("d")] = log_probs[frame].max() - 1  # is nearly heard
    transcript = decode(search(letters, min_probability=0.1), log_probs, Entity("sommerfeld"))
    assert transcript.text == spoken
    assert [(s.entity, s.phrase) for s in transcript.spans] in ([("sommerfeld", form)], [("sommerfeld", "sommerfeld")])


def test_evidence_tells_of_the_likeliest_spelling_of_an_entity(search, letters):
    decoder = search(letters)
    log_probs = say(letters, "a catharina came")
    (transcript,) = decoder.decode(log_probs[None], lists=decoder.compile(["katharina"]))[0]
    assert transcript.text == "a katharina came"
    evidence = decoder.evidence(log_probs, decoder.compile(["katharina"]))
    assert evidence.found.shown == ("katharina",)
    assert evidence.found.log_odds[0] == pytest.approx(
        np.log(transcript.spans[0].probability / (1 - transcript.spans[0].probability)), abs=1e-3
    )
    assert evidence.text_with(0) == transcript.text


@pytest.mark.parametrize(
    ("phrase", "written"),
    [("nightshade", "night shade"), ("choirmaster", "choir master"), ("shell fish", "shellfish"), ("black box", "blackbox")],
)
def test_compounds(phrase, written):
    settings = VariantSettings(ALPHABET, word_frequencies="en")
    assert written in texts(generate_variants(["compounds"], [Entity(phrase)], [phrase], settings).variants[0])


@pytest.mark.parametrize("phrase", ["katharina", "seven", "on"])
def test_what_is_not_two_words_is_not_parted(phrase):
    settings = VariantSettings(ALPHABET, word_frequencies="en")
    assert generate_variants(["compounds"], [Entity(phrase)], [phrase], settings).variants[0] == ()


@pytest.mark.parametrize(("phrase", "written"), [("haiku", "hiku"), ("katharina", "catherina"), ("weissmann", "weismann")])
def test_g2g_finds_what_is_read_alike(phrase, written):
    own = generate_variants(["g2g"], [Entity(phrase)], [phrase], VariantSettings(ALPHABET)).variants[0]
    assert written in texts(own)
    assert [v.cost for v in own] == sorted(v.cost for v in own)


def test_g2p_spells_what_the_list_says_of_the_sound():
    entity = Entity("tittoni", pronunciations=("T IY T OW N IY",))
    own = generate_variants(["g2p"], [entity], ["tittoni"], VariantSettings(ALPHABET, pronunciations="en")).variants[0]
    assert {"titony", "titoni"} & set(texts(own))


@pytest.mark.parametrize("name", ["g2g", "g2p", "compounds"])
def test_variants_are_written_as_the_model_writes(name):
    """In capitals, if it writes nothing else."""
    lower, upper = (
        generate_variants(
            [name], [Entity("Manystone")], [phrase], VariantSettings(alphabet, pronunciations="en", word_frequencies="en")
        ).variants[0]
        for phrase, alphabet in (("manystone", ALPHABET), ("MANYSTONE", UPPER))
    )
    assert lower and [(v.text.upper(), v.cost) for v in lower] == [(v.text, v.cost) for v in upper]


def test_rewritings_against_all_that_rules_make():
    rules = {("a", "e"): 1.0, ("a", "ai"): 2.0, ("tt", "t"): 0.5, ("i", "y"): 1.5, ("n", "nn"): 1.0, ("th", "t"): 0.3}
    text = "thattina"
    made = {("", 0): 0.0}
    for _ in range(len(text)):
        for (written, at), cost in list(made.items()):
            for source, target, more in [*((s, t, c) for (s, t), c in rules.items()), *((x, x, 0.0) for x in set(text))]:
                if text.startswith(source, at):
                    key = (written + target, at + len(source))
                    made[key] = min(cost + more, made.get(key, np.inf))
    trigrams = letter_trigrams()

    def usual(word: str) -> float:
        codes = [0, 0, *(SYMBOLS.index(letter) for letter in word), 0]
        return float(PLAUSIBILITY * sum(trigrams[tuple(codes[k - 2 : k + 1])] for k in range(2, len(codes))))

    expected = {
        w: max(0.1, cost + usual(w) - usual(text)) for (w, at), cost in made.items() if at == len(text) and w != text
    }
    found = Rewriter(rules).rewritings(text, 200, 9.0)
    assert [cost for _, cost in found[:9]] == pytest.approx(sorted(expected.values())[:9], abs=1e-3)
    for written, cost in found:
        assert cost == pytest.approx(expected[written], abs=1e-3)


def test_rules_are_learned_from_what_is_written(tmp_path):
    said = ["katharina saw the zorblat", "the zorblat met katharina", "a thing"] * 5
    written = ["catharina saw the sorblat", "the sorblat met catharina", "a thing"] * 5
    pairs = [pair for a, b in zip(said, written, strict=True) for pair in pairs_of(a, b)]
    rules, understood = learn_rules(pairs)
    assert understood == 20
    table = rules_of(read_graphemes())
    assert rules["k", "c"] < table["k", "c"]
    assert rules["zo", "so"] < 2
    write_rules(tmp_path / "rules.tsv", rules, "of a test")
    read = read_rules(tmp_path / "rules.tsv")
    assert read == {rule: pytest.approx(cost, abs=1e-3) for rule, cost in rules.items()}
    settings = VariantSettings(ALPHABET, g2g_file=str(tmp_path / "rules.tsv"))
    assert "sorblat" in texts(generate_variants(["g2g"], [Entity("zorblat")], ["zorblat"], settings).variants[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("from\tto\tcost\na\tb\n", "rules.tsv:2: 'a\\\\tb' is no rule"),
        ("phone\tletters\tshare\nQQ\tq\t1\n", "rules.tsv:2: .* is broken"),
    ],
)
def test_a_broken_file_of_rules_is_one_error(content, message, tmp_path):
    (tmp_path / "rules.tsv").write_text(content)
    with pytest.raises(ValueError, match=message):
        generate_variants(["g2g"], [], [], VariantSettings(ALPHABET, g2g_file=str(tmp_path / "rules.tsv")))


# ---- suppression


def hesitant(vocabulary: Vocabulary, spoken: str, word: str, other: str, share: float) -> np.ndarray:
    """Log-probs of a text in which another letter in a word has a share of the probability."""
    log_probs = say(vocabulary, spoken)
    first = 2 * spoken[: spoken.index(word)].replace(" ", "").__len__()
    for k, (a, b) in enumerate(zip(word, other, strict=True)):
        if a != b:
            row = log_probs[first + 2 * k]
            row[vocabulary.pieces.index(a if k else f"▁{a}")] = np.log(1 - share)
            row[vocabulary.pieces.index(b if k else f"▁{b}")] = np.log(share)
    return log_probs


@pytest.mark.parametrize(("share", "text"), [(0.3, "i saw tim here"), (0.0001, "i saw tom here")])
@pytest.mark.parametrize("entities", [["here"], []])
def test_a_suppressed_phrase_gives_way_to_what_is_nearly_as_likely(share, text, entities, search, letters):
    phrases = [*entities, "tom"]
    weights = [*(1.0 for _ in entities), -1.0]
    decoder = search(letters)
    log_probs = hesitant(letters, "i saw tom here", "tom", "tim", share)
    (transcript,) = decoder.decode(log_probs[None], lists=decoder.compile(phrases, weights))[0]
    assert transcript.text == text
    assert collapse(transcript.path, letters.blank) == transcript.tokens
    assert [span.phrase for span in transcript.spans] == entities
    greedy = log_probs.argmax(axis=1)
    assert (transcript.path[:8] == greedy[:8]).all()
    assert (transcript.path[14:] == greedy[14:]).all()


@pytest.mark.parametrize(
    ("pieces", "count"),
    [(["▁o", "'", "b", "c"], 3), (["北", "京", "东"], 2), (["▁a", "▁b", "▁c", "▁d", "▁e", "▁f", "▁g", "▁h", "▁i", "▁k"], 9)],
    ids=["apostrophe", "no spaces", "nine words"],
)
def test_a_suppressed_phrase_may_be_of_any_length(pieces, count, search):
    """However many words the decoder takes it for. Its last token may be the last of the vocabulary, too."""
    vocabulary = Vocabulary(tuple(pieces), len(pieces))
    rows = np.full((2 * count, vocabulary.size), 1e-7)
    rows[np.arange(0, 2 * count, 2), range(count)] = rows[1::2, vocabulary.blank] = 1
    rows[-2, [count - 1, len(pieces) - 1]] = 0.7, 0.3
    log_probs = np.log(rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)[None]
    decoder = search(vocabulary)
    phrase, other = (vocabulary.text([*range(count - 1), last]) for last in (count - 1, len(pieces) - 1))
    assert decoder.decode(log_probs)[0][0].text == phrase
    assert decoder.decode(log_probs, lists=decoder.compile([phrase], [-1.0]))[0][0].text == other


def test_texts_are_distinct_without_what_is_suppressed(search, letters):
    decoder = search(letters)
    log_probs = hesitant(letters, "i saw tom here", "tom", "tim", 0.3)
    found = decoder.decode(log_probs[None], lists=decoder.compile(["tim", "tom"], [0.3, -1.0]), nbest=4)[0]
    assert [transcript.text for transcript in found] == ["i saw tim here"]


def test_a_suppressed_phrase_gives_way_with_every_method(search, letters):
    decoder = search(letters, method="adaptive")
    log_probs = hesitant(letters, "i saw tom here", "tom", "tim", 0.3)
    for others in ([], ["here"]):
        lists = decoder.compile([*others, "tom"], [*(1.0 for _ in others), -1.0])
        assert decoder.decode(log_probs[None], lists=lists)[0][0].text == "i saw tim here"


def test_only_whole_words_are_suppressed_and_never_in_an_entity(search, letters):
    decoder = search(letters)
    log_probs = hesitant(letters, "tom tomas tom jones", "tomas", "timas", 0.3)
    lists = decoder.compile(["tom jones", "tom"], [1.0, -5.0])
    (transcript,) = decoder.decode(log_probs[None], lists=lists)[0]
    assert transcript.text.split()[1:] == ["tomas", "tom", "jones"]


def test_the_text_never_has_a_hole(search, letters):
    decoder = search(letters)
    (transcript,) = decoder.decode(say(letters, "a tom a")[None], lists=decoder.compile(["tom"], [-100.0]))[0]
    first, middle, last = transcript.text.split()
    assert (first, last) == ("a", "a")
    assert middle != "tom"


def test_suppressed_phrases_of_joined_lists(search, letters):
    decoder = search(letters)
    log_probs = hesitant(letters, "i saw tom here", "tom", "tim", 0.3)
    for joined in (
        decoder.compile(["here"]).joined(decoder.compile(["tom"], [-1.0])),
        decoder.compile(["tom"], [-1.0]).joined(decoder.compile(["here"])),
    ):
        assert decoder.decode(log_probs[None], lists=joined)[0][0].text == "i saw tim here"
