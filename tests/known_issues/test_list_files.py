"""What users saw who brought the list that they had."""

from __future__ import annotations

import pytest

from nemo_bias.entities import read_entities


@pytest.fixture
def read(tmp_path):
    def read(name, content):
        (tmp_path / name).write_text(content)
        entities = read_entities(tmp_path / name)
        return [entity.text for entity in entities], " ".join(entities.notes)

    return read


def test_comments_became_entities(read):
    assert read("names.txt", "# speakers\nKatharina\n")[0] == ["Katharina"]


def test_one_katharina(read):
    """Numbers of a numbered list were written out before the names."""
    assert read("names.txt", "1. Katharina\n2. Sommerfeld\n")[0] == ["Katharina", "Sommerfeld"]


def test_two_names_of_a_line_became_one_phrase_and_nothing_said_so(read):
    texts, notes = read("names.txt", "Katharina, Sommerfeld\n")
    assert texts == ["Katharina, Sommerfeld"] and "is one phrase; write one entity a line" in notes


def test_csv_was_refused_step_by_step(read):
    assert read("names.csv", 'id;name;team\n1;"Sommerfeld; Katharina";a\n')[0] == ["Sommerfeld; Katharina"]


def test_one_underscore_made_a_word_spotter_file_of_a_list(read):
    texts, notes = read("names.txt", "Katharina\nsnake_case\n")
    assert texts == ["Katharina", "snake_case"] and "underscore" in notes


def test_not_available_was_listed(read):
    assert '"N/A" looks like an empty cell' in read("names.txt", "Katharina\nN/A\n")[1]
