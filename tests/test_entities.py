import json
import random
from pathlib import Path

import pytest

from nemo_bias.entities import FORMATS, Entity, EntityList, EntityListError, parse_entities, read_entities


def read(folder: Path, content: str | bytes, file_format: str = "auto", name: str = "names.txt") -> EntityList:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_entities(path, file_format)


def bare(entities: EntityList) -> list[tuple[object, ...]]:
    return [(e.text, e.weight, e.spellings, e.pronunciations, e.entity_class, e.line) for e in entities]


CASES = {  # name, content, text, weight, spellings, pronunciations, class, line; the format is to be guessed
    "text": ("a.txt", "Jürgen  Klopp\n\n  NVIDIA \n", [("Jürgen Klopp", 1, (), (), "", 1), ("NVIDIA", 1, (), (), "", 3)]),
    "bom and crlf": ("a.txt", "\ufeffFoo\r\nBar\r\n", [("Foo", 1, (), (), "", 1), ("Bar", 1, (), (), "", 2)]),
    "no last newline": ("a.txt", "Foo", [("Foo", 1, (), (), "", 1)]),
    "tsv": (
        "a.tsv",
        "class\ttext\tweight\tspellings\tpronunciations\nperson\tKai\t2.5\tkye|ki\tK AY1\n\n\tOslo\t\t\t\n",
        [("Kai", 2.5, ("kye", "ki"), ("K AY1",), "person", 2), ("Oslo", 1, (), (), "", 4)],
    ),
    "tsv by content": ("a.txt", "text\tweight\nKai\t1e-1\n", [("Kai", 0.1, (), (), "", 2)]),
    "jsonl": (
        "a.jsonl",
        '"GPU"\n{"text": "Kai", "weight": 0, "spellings": ["kye", "kye", "Kai"], "pronunciations": "K AY1", "class": "p"}\n',
        [("GPU", 1, (), (), "", 1), ("Kai", 0, ("kye",), ("K AY1",), "p", 2)],
    ),
    "json by content": ("a.txt", '{"text": "snake_case"}\n', [("snake_case", 1, (), (), "", 1)]),
    "ctc_ws": (
        "a.txt",
        "gpu_g p u_g p you\nnvidia_nvidia\n",
        [("gpu", 1, ("g p u", "g p you"), (), "", 1), ("nvidia", 1, (), (), "", 2)],
    ),
    "sherpa": (
        "a.txt",
        "LOUIS XIV :3.0\nHELLO WORLD\nPORT MORESBY :1.5\n",
        [("LOUIS XIV", 2, (), (), "", 1), ("HELLO WORLD", 1, (), (), "", 2), ("PORT MORESBY", 1, (), (), "", 3)],
    ),
    "aws": (
        "a.txt",
        "Phrase\tSoundsLike\tIPA\tDisplayAs\nLos-Angeles\t\tl ɔ s\tLos Angeles\n"
        "C.L.I.\tsee-el-eye\t\tCLI\nAndorra-la-Vella\t\t\t\n",
        [
            ("Los Angeles", 1, (), ("l ɔ s",), "", 2),
            ("CLI", 1, ("C.L.I.", "see el eye"), (), "", 3),
            ("Andorra la Vella", 1, (), (), "", 4),
        ],
    ),
    "aws in .tsv": ("a.tsv", "DisplayAs\tPhrase\n\tA.B.C.-s\n", [("A.B.C. s", 1, (), (), "", 2)]),
}


@pytest.mark.parametrize("case", CASES)
def test_formats(tmp_path: Path, case: str) -> None:
    name, content, expected = CASES[case]
    assert bare(read(tmp_path, content, name=name)) == expected


def test_format_argument_overrules_the_guess(tmp_path: Path) -> None:
    assert [e.text for e in read(tmp_path, "snake_case\n", "text")] == ["snake_case"]
    assert read(tmp_path, "1. FC\n2. Liga\n", "text").notes == ()
    assert [e.text for e in read(tmp_path, "foo_bar\n", "ctc_ws")] == ["foo"]


def test_empty_file_is_an_empty_list_with_a_note(tmp_path: Path) -> None:
    entities = read(tmp_path, "\n \n")
    assert len(entities) == 0
    assert "holds no entities" in entities.notes[0]


def test_duplicates_are_merged_with_a_note(tmp_path: Path) -> None:
    lines = [
        {"text": "New York", "weight": 2, "spellings": ["a"], "class": "city"},
        {"text": "new york"},
        {"text": " New   York", "weight": 3, "spellings": ["b", "a"], "pronunciations": "N UW1", "class": "state"},
    ]
    entities = read(tmp_path, "\n".join(map(json.dumps, lines)), "jsonl")
    assert bare(entities) == [("New York", 3, ("a", "b"), ("N UW1",), "city", 1), ("new york", 1, (), (), "", 2)]
    (note,) = entities.notes
    assert 'names.txt:3: "New York" is merged with "New York" of ' in note
    assert 'class "state" gives way to "city"' in note


def test_python_items() -> None:
    entities = parse_entities(["Foo", {"text": "Bar", "weight": 2}, Entity("Baz", 0.5, line=7, source="b.txt")], "manifest")
    assert [(e.text, e.weight, e.place) for e in entities] == [
        ("Foo", 1, "manifest:1"),
        ("Bar", 2, "manifest:2"),
        ("Baz", 0.5, "b.txt:7"),
    ]
    assert list(parse_entities([])) == []


BROKEN: dict[
    str, tuple[str, str, str | bytes, int, str]
] = {  # name, format, content, line of the error (0: none), words of the message
    "unknown format": ("a.txt", "tvs", "x", 0, 'did you mean "tsv"'),
    "csv without a known column": (
        "a.csv",
        "auto",
        "id,who\n1,Foo",
        1,
        "no column is called text, phrase, name, but 'id', 'who'",
    ),
    "csv column twice": ("a.csv", "auto", "text,Text\na,b", 1, "given twice"),
    "csv weight twice": ("a.csv", "auto", "name,weight,weight\nFoo,1,1", 1, "given twice"),
    "csv too many cells": ("a.csv", "auto", "text,weight\n\nEdmond, Oklahoma,1", 3, "into quotation marks"),
    "csv empty phrase": ("a.csv", "auto", "name;weight\n;1", 2, "the cell of the phrase is empty"),
    "csv weight": ("a.csv", "auto", "name;weight\nFoo;1,5", 2, "'1,5' is not a number"),
    "itemized": ("a.txt", "itemized", "1. Foo\nBar", 2, "no number or bullet"),
    "bad utf-8": ("a.txt", "auto", b"Foo\nJ\xfcrgen\n", 2, "0xfc is not UTF-8"),
    "utf-16": ("a.txt", "auto", "Foo".encode("utf-16"), 1, "is not UTF-8"),
    "control character": ("a.txt", "text", "Foo\nB\x07ar", 2, "U+0007"),
    "zero byte": ("a.txt", "text", "Foo\x00", 1, "U+0000"),
    "old mac line ends": ("a.txt", "text", "Foo\rBar\r", 1, "U+000D"),
    "tab in plain text": ("a.txt", "text", "nvidia\t40", 1, "tsv format"),
    "too long": ("a.txt", "text", "ok\n" + "word " * 41, 2, "204 characters"),
    "unknown column": ("a.tsv", "auto", "text\twieght\nFoo\t1", 1, 'did you mean "weight"'),
    "no header": ("a.tsv", "auto", "\nFoo\t1", 2, "must be a header"),
    "no text column": ("a.tsv", "auto", "weight\tclass\n1\tp", 1, '"text" is missing'),
    "column twice": ("a.tsv", "auto", "text\ttext\nFoo\tBar", 1, "given twice"),
    "too few columns": ("a.tsv", "auto", "text\tweight\nFoo\t1\nBar", 3, "the row has 1 columns and the header 2"),
    "empty text": ("a.tsv", "auto", "text\tweight\n\t1", 2, '"text" is empty'),
    "empty spelling": ("a.tsv", "auto", "text\tspellings\nFoo\ta||b", 2, "spelling is empty"),
    "weight in words": ("a.tsv", "auto", "text\tweight\nFoo\thigh", 2, "'high' is not a number"),
    "weight nan": ("a.tsv", "auto", "text\tweight\nFoo\tnan", 2, "not a number"),
    "weight too large": ("a.tsv", "auto", "text\tweight\nFoo\t1e999", 2, "out of range"),
    "json nan": ("a.jsonl", "auto", '{"text": "Foo", "weight": NaN}', 1, "out of range"),
    "json huge": ("a.jsonl", "auto", '{"text": "Foo", "weight": 1' + "0" * 400 + "}", 1, "out of range"),
    "json bool": ("a.jsonl", "auto", '{"text": "Foo", "weight": true}', 1, "weight is true or false"),
    "json string weight": ("a.jsonl", "auto", '{"text": "Foo", "weight": "2"}', 1, "weight is a string"),
    "json null": ("a.jsonl", "auto", '"Foo"\nnull', 2, "the entity is null"),
    "json list": ("a.json", "auto", '["Foo", "Bar"]', 1, "the entity is a list"),
    "json pretty printed": ("a.json", "auto", '[\n"Foo"\n]', 1, "not valid JSON"),
    "json broken": ("a.jsonl", "auto", '"Foo"\n{"text": ', 2, "not valid JSON"),
    "json nested": ("a.jsonl", "auto", "[" * 100000, 1, "not valid JSON"),
    "json key": ("a.jsonl", "auto", '{"text": "Foo", "spelling": "a"}', 1, 'did you mean "spellings"'),
    "json key twice": ("a.jsonl", "auto", '{"text": "Foo", "text": "Bar"}', 1, "given twice"),
    "json no text": ("a.jsonl", "auto", '{"weight": 1}', 1, '"text" is missing'),
    "json text type": ("a.jsonl", "auto", '{"text": 3}', 1, "text is a number"),
    "json spellings type": ("a.jsonl", "auto", '{"text": "Foo", "spellings": [1]}', 1, "spelling is a number"),
    "json spellings object": ("a.jsonl", "auto", '{"text": "Foo", "spellings": {}}', 1, "spellings is an object"),
    "json half a character": ("a.jsonl", "auto", r'"a\ud800"', 1, "U+D800"),
    "ctc_ws empty spelling": ("a.txt", "ctc_ws", "foo_\n", 1, "spelling is empty"),
    "ctc_ws empty word": ("a.txt", "auto", "ok_o k\n_foo\n", 2, "text is empty"),
    "sherpa score": ("a.txt", "sherpa", "FOO :x", 1, "score 'x' is not a number"),
    "sherpa score alone": ("a.txt", "sherpa", ":2", 1, "text is empty"),
    "sherpa keywords": ("a.txt", "sherpa", "▁HE LL O :1.5 #0.3", 1, "keyword file"),
    "sherpa original": ("a.txt", "sherpa", "FOO @foo", 1, "keyword file"),
    "aws column": ("a.txt", "aws", "Phrase\tDisplayas\nFoo\tfoo", 1, 'did you mean "DisplayAs"'),
    "aws no phrase": ("a.txt", "aws", "Phrase\tDisplayAs\n\tFoo", 2, '"Phrase" is empty'),
}


@pytest.mark.parametrize("case", BROKEN)
def test_errors_name_the_line_and_the_fix(tmp_path: Path, case: str) -> None:
    name, file_format, content, line, words = BROKEN[case]
    with pytest.raises(EntityListError) as error:
        read(tmp_path, content, file_format, name)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / name}:{line}: " if line else f"{tmp_path / name}: ")
    assert words in message
    assert "; " in message  # a fix follows the reason


def test_unreadable_paths(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.txt", "a\0b"):
        with pytest.raises(EntityListError, match="cannot be read"):
            read_entities(path)


@pytest.mark.parametrize("items", ["Foo", b"Foo", {"text": "Foo"}, 3, None])
def test_items_that_are_no_list(items: object) -> None:
    with pytest.raises(EntityListError, match="field: expected a list"):
        parse_entities(items, "field")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "item", ["", 3, None, {}, {1: 2}, {"text": b"x"}, Entity("x", float("nan")), Entity("x", spellings=("",))]
)
def test_broken_items(item: object) -> None:
    with pytest.raises(EntityListError, match=r"^field:2: "):
        parse_entities(["ok", item], "field")  # type: ignore[list-item]


FRAGMENTS = [
    *[
        "Foo",
        "New York",
        "Jürgen",
        "東京",
        " ",
        "\t",
        "\t\t",
        "_",
        "|",
        ":",
        " :1.5",
        " :-2",
        " #0.3",
        " @x",
        "▁",
        "-",
        "A.B.C.",
    ],
    *["text", "text\tweight", "text\tspellings\tclass", "Phrase\tDisplayAs", "Phrase\tSoundsLike\tIPA\tDisplayAs", "weight"],
    *[
        '"Foo"',
        '{"text": "Foo"}',
        '{"text": "Foo", "weight": 1e400}',
        '{"text": [',
        "{}",
        "[",
        "null",
        "NaN",
        "-Infinity",
        "true",
    ],
    *[
        '{"text": "Bar", "spellings": ["a", 2]}',
        '"\\ud800"',
        '"\\u0000"',
        "9" * 5000,
        "1e309",
        "nan",
        "x" * 300,
        "\u200b",
        "\u2028",
    ],
    *["\r", "\x00", "\x0b", "\x85", "\ufeff", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")],
]


def random_file(rng: random.Random) -> bytes:
    """Lines of one kind, with some of other kinds and now and then bytes of no kind among them."""
    lines = []
    favourite = rng.choice(FRAGMENTS)
    for _ in range(rng.randrange(8)):
        line = favourite if rng.random() < 0.3 else "".join(rng.choices(FRAGMENTS, k=rng.randrange(1, 5)))
        data = line.encode()
        if rng.random() < 0.05:
            position = rng.randrange(len(data) + 1)
            data = data[:position] + rng.randbytes(3) + data[position:]
        lines.append(data)
    return rng.choice([b"\n", b"\r\n"]).join(lines)


def test_any_file_parses_or_raises_an_entity_list_error(tmp_path: Path) -> None:
    rng = random.Random(1)
    parsed = 0
    for number in range(2000):
        path = tmp_path / f"list{rng.choice(['.txt', '.tsv', '.jsonl', '.json', '.csv', ''])}"
        path.write_bytes(random_file(rng))
        for file_format in ("auto", *FORMATS) if number % 4 == 0 else ("auto", rng.choice(FORMATS)):
            try:
                entities = read_entities(path, file_format)
            except EntityListError as error:
                assert str(error).startswith(f"{path}:")
                continue
            parsed += len(entities) > 0
            assert len({e.text for e in entities}) == len(entities)
            for entity in entities:
                assert entity.text == " ".join(entity.text.split()) != ""
                assert abs(entity.weight) < float("inf")
                str(entity).encode()
    assert parsed > 300
