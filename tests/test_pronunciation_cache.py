"""The cache of readings on disk."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from nemo_bias.pronunciation import Pronouncer
from nemo_bias.pronunciation.cache import ReadingCache
from nemo_bias.pronunciation.g2p import NeuralG2P, Reading
from nemo_bias.pronunciation.pronouncer import WORTH_KEEPING

WORDS = [f"zor{a}{b}lat" for a in "aeiou" for b in "bdgklmnprst"]
SMITH = (Reading((28, 20, 16, 31), 0.75), Reading((28, 20, 16), 0.125))


@pytest.fixture
def no_model(monkeypatch):
    """A model that cannot be run."""

    def fail(self, words):
        raise AssertionError(f"the model was run on {words}")

    return lambda: monkeypatch.setattr(NeuralG2P, "__call__", fail)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "nemo_bias"


def test_readings_come_back(tmp_path):
    cache = ReadingCache("1", tmp_path)
    assert cache.read(["smith"]) == {}
    cache.write({"smith": SMITH})
    assert ReadingCache("1", tmp_path).read(["smith", "jones"]) == {"smith": SMITH}
    assert ReadingCache("2", tmp_path).read(["smith"]) == {}
    many = {f"word{number}": SMITH for number in range(1234)}
    cache.write(many)
    assert cache.read([*many, "smith"]) == many | {"smith": SMITH}


def test_a_second_start_does_not_run_the_model(folder, no_model):
    first = Pronouncer().words(WORDS)
    [file] = folder.iterdir()
    assert file.name == f"g2p-{NeuralG2P().version}.sqlite"
    no_model()
    assert Pronouncer().words(WORDS) == first


def test_a_pronouncer_remembers(tmp_path, monkeypatch, no_model):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")  # nothing can be kept
    pronouncer = Pronouncer()
    first = pronouncer.words(WORDS)
    no_model()
    assert pronouncer.words(WORDS) == first


def test_where_nothing_can_be_written_the_log_says_so_once(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.INFO, logger="nemo_bias"):
        pronouncer = Pronouncer()
        assert all(pronouncer.words(WORDS)) and all(pronouncer.words([f"{word}o" for word in WORDS]))
    [record] = caplog.records
    assert record.levelno == logging.INFO and "not kept on disk" in record.getMessage()


def test_without_a_home_folder(monkeypatch, tmp_path, caplog):
    def fail(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.expanduser", fail)
    monkeypatch.chdir(tmp_path)
    assert all(Pronouncer().words(WORDS))
    assert not list(tmp_path.iterdir())


def test_a_few_words_stay_in_memory(folder):
    assert all(Pronouncer().words(WORDS[: WORTH_KEEPING // 2]))
    assert not folder.exists()


def test_a_file_that_is_no_cache(folder, caplog):
    folder.mkdir()
    (folder / f"g2p-{NeuralG2P().version}.sqlite").write_bytes(b"no database, but long enough to look at" * 100)
    with caplog.at_level(logging.INFO, logger="nemo_bias"):
        assert all(Pronouncer().words(WORDS))
    assert "not a database" in caplog.text


def test_several_processes_at_once(folder, no_model):
    program = f"from nemo_bias.pronunciation import Pronouncer; print(Pronouncer().words({WORDS!r}))"
    running = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = {process.communicate()[0].strip() for process in running}
    assert all(process.returncode == 0 for process in running)
    no_model()
    assert outputs == {str(Pronouncer().words(WORDS))}
