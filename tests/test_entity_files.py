"""What a file of entities is taken for, and what is said of it."""

from __future__ import annotations

import pytest

from nemo_bias.entities import EntityListError, parse_entities, read_entities

READ = {  # name, content, texts, words of the only note ("": no note)
    "comments": (
        "a.txt",
        "# colleagues\nKatharina\n  # towns\nOslo\n",
        ["Katharina", "Oslo"],
        "line 1 and 1 more begin with #",
    ),
    "one comment": ("a.txt", "Katharina\n#Oslo\n", ["Katharina"], "line 2 begins with # and is a comment"),
    "comments in a table": ("a.tsv", "# made today\ntext\tweight\nOslo\t2\n", ["Oslo"], "line 1 begins with #"),
    "no comment": ("a.txt", "C#\nF# minor\n", ["C#", "F# minor"], ""),
    "numbers": ("a.txt", "1. Katharina\n2. Port Moresby\n\n3. Oslo\n", ["Katharina", "Port Moresby", "Oslo"], "from 1 to 3"),
    "numbers with brackets": ("a.txt", "(7) Katharina\n(8) Oslo\n", ["Katharina", "Oslo"], "itemized format"),
    "numbers with tabs": ("a.txt", "1\tKatharina\n2\tOslo\n", ["Katharina", "Oslo"], "itemized format"),
    "bullets": ("a.md", "- Katharina\n- Oslo\n", ["Katharina", "Oslo"], "all lines begin with the bullet -"),
    "one number": ("a.txt", "1. FC Köln\nOslo\n", ["1. FC Köln", "Oslo"], ""),
    "one line": ("a.txt", "1. FC Köln\n", ["1. FC Köln"], ""),
    "numbers that are names": ("a.txt", "1. FC Köln\n3. Liga\n", ["1. FC Köln", "3. Liga"], ""),
    "decimals": ("a.txt", "1.5\n2.5\n", ["1.5", "2.5"], ""),
    "one score": (
        "a.txt",
        "Oslo :2\nBern\n",
        ["Oslo :2", "Bern"],
        "line 1 ends in a score, as in the sherpa format, but is the",
    ),
    "snake case": ("a.txt", "my_variable\nfoo_bar\n", ["my_variable", "foo_bar"], "line 1 has an underscore"),
    "one underscore": ("a.txt", "Oslo\nfoo_bar\n", ["Oslo", "foo_bar"], "line 2 has an underscore"),
    "csv": ("a.csv", "id,Name,weight\n1,Katharina,2\n2,Oslo,\n", ["Katharina", "Oslo"], 'columns that are not read: "id"'),
    "semicolons": ("a.csv", "phrase;class\nKatharina;person\n", ["Katharina"], ""),
    "bars": ("a.csv", "text|weight\nKatharina|1\n", ["Katharina"], ""),
    "quoted": (
        "a.csv",
        '"text","weight"\r\n"Edmond,  Oklahoma","2"\r\n"the ""Rock""",1\r\n',
        ["Edmond, Oklahoma", 'the "Rock"'],
        "comma",
    ),
    "line ends in cells": ("a.csv", 'name\n"Port\nMoresby"\n', ["Port Moresby"], ""),
    "one column": ("a.csv", "Katharina\nOslo\n", ["Katharina", "Oslo"], ""),
    "separator": ("a.csv", "sep=;\nname;weight\nKatharina;1\n", ["Katharina"], ""),
    "text before name": ("a.csv", "name,text\nCity of Oslo,Oslo\n", ["Oslo"], 'not read: "name"'),
    "misspelt column": ("a.csv", "name,wieght\nOslo,2\n", ["Oslo"], '"wieght", did you mean "weight"?'),
    "csv by content": ("a.txt", "name,weight\nKatharina,2\n", ["Katharina"], 'csv format because its header has "name"'),
    "no csv": ("a.txt", "name\nKatharina\n", ["name", "Katharina"], "looks like the header of a column"),
    "commas in text": (
        "a.txt",
        "Katharina, Sommerfeld\nEdmond, Oklahoma\n1,000 Islands\n",
        ["Katharina, Sommerfeld", "Edmond, Oklahoma", "1,000 Islands"],
        '"Katharina, Sommerfeld" holds a comma and is one phrase; write one entity a line if several are meant, '
        "and so is 1 other",
    ),
    "header only": ("a.csv", "name,weight\n", [], "the file holds no entities"),
    "only blank lines": ("a.csv", "\n\n", [], "the file holds no entities"),
}


@pytest.mark.parametrize("case", READ)
def test_what_a_file_is_taken_for(tmp_path, case):
    name, content, texts, said = READ[case]
    path = tmp_path / name
    path.write_bytes(content.encode())
    entities = read_entities(path)
    assert [entity.text for entity in entities] == texts
    assert len(entities.notes) == bool(said)
    for note in entities.notes:
        assert note.startswith(f"{path}:") and said in note


def test_all_columns_of_a_csv_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Text,Weight,Spellings,Pronunciations,Class\n\nKai,2.5,kye|ki,K AY1,person\n")
    [entity] = read_entities(path)
    assert (entity.text, entity.weight, entity.spellings, entity.pronunciations) == ("Kai", 2.5, ("kye", "ki"), ("K AY1",))
    assert (entity.entity_class, entity.place) == ("person", f"{path}:3")


def test_a_broken_csv_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("name,weight\nOslo,1\n" + "x" * 200_000 + ",1\n")
    with pytest.raises(EntityListError, match=r"a\.csv:3: not valid CSV \(field larger than field limit"):
        read_entities(path)


SUSPICIOUS = {
    "single letters": (["A", "Oslo", "b"], 'list:1: "A" is a single letter'),
    "empty cells": (["N/A", "nan", "-"], 'list:1: "N/A" looks like an empty cell'),
    "common words": (["Oslo", "Will", "the"], 'list:2: "Will" is one of the 1,000 most common English words'),
    "sentences": (["We met him there.", " ".join("abcdefghijk")], 'list:1: "We met him there." is a whole sentence'),
    "inner comments": (["Oslo # the capital"], 'list:1: "Oslo # the capital" holds a comment'),
    "commas": (["Katharina; Sommerfeld"], 'list:1: "Katharina; Sommerfeld" holds a comma'),
}


@pytest.mark.parametrize("case", SUSPICIOUS)
def test_what_looks_wrong_is_kept_and_noted(case):
    items, said = SUSPICIOUS[case]
    entities = parse_entities(items, "list")
    assert [entity.text for entity in entities] == items
    assert [note.startswith(said) for note in entities.notes] == [True]


def test_nothing_is_said_of_ordinary_names():
    names = [
        "Katharina",
        "Port Moresby",
        "Yahoo!",
        "Dr. Who?",
        "C#",
        "東",
        "GPT 4",
        "1,000 Islands",
        "T. S. Eliot",
        "Guns N' Roses",
    ]
    assert parse_entities(names).notes == ()


def test_a_note_counts_the_others():
    [note] = parse_entities([*"ABC", "Oslo"], "list").notes
    assert note.endswith("and so are 2 others of the list")
