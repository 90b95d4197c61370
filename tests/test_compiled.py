"""Compiled code where it can be kept, and where it cannot."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys

import pytest
from unprivileged import ROOT, run_unprivileged, unwritable_copy

from nemo_bias import compiled

PROGRAM = """
import numpy as np
from nemo_bias.pronunciation.distance import phone_distance
said = np.zeros(3, np.int32)
print("distance", phone_distance(said, said, np.zeros((50, 50), np.float32)))
"""
NOTICE = "compiled code cannot be kept on disk"


@pytest.fixture
def nobody(tmp_path):
    return unwritable_copy(tmp_path / "packages")


def test_without_any_folder_it_compiles_and_says_so_once(nobody):
    shown = run_unprivileged(nobody, PROGRAM + "import nemo_bias.decoder.search")
    assert "distance 0.0" in shown
    assert shown.count(NOTICE) == 1 and "NUMBA_CACHE_DIR" in shown


def test_numba_cache_dir_is_used(nobody, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    tmp_path.chmod(0o755)
    shown = run_unprivileged(nobody, PROGRAM, NUMBA_CACHE_DIR=str(cache))
    assert NOTICE not in shown
    assert [path.suffix for path in cache.rglob("distance.phone_distance*.nbc")] == [".nbc"]


def test_a_second_process_takes_what_was_kept(tmp_path):
    env = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path))
    hits = "print('kept', sum(phone_distance.stats.cache_hits.values()))"
    shown = [
        subprocess.run([sys.executable, "-c", PROGRAM + hits], cwd=ROOT, env=env, check=True, capture_output=True, text=True)
        for _ in range(2)
    ]
    assert "kept 0" in shown[0].stdout and "kept 1" in shown[1].stdout


def test_it_is_compiled_anew_if_what_it_calls_has_changed(tmp_path):
    """In another file, which numba does not look at."""
    shutil.copytree(ROOT / "nemo_bias", tmp_path / "nemo_bias", ignore=shutil.ignore_patterns("__pycache__", "*.nb?"))
    program = """
import numpy as np
from nemo_bias.decoder.phone_evidence import phrase_phones
from nemo_bias.decoder.sounds import sound_distances
said, costs = np.zeros(3, np.int32), np.zeros((50, 50), np.float32)
print("distance", sound_distances(said, np.array([0, 3], np.int32), said[:1], phrase_phones([[said]]), costs))
"""
    env = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    called, shown = tmp_path / "nemo_bias" / "pronunciation" / "distance.py", []
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=env, check=True, capture_output=True, text=True
        )
        shown.append(run.stdout)
        called.write_text(called.read_text().replace("    return float(row", "    return 1 + float(row"))
    assert "distance [0.]" in shown[0] and "distance [1.]" in shown[1]


def test_it_runs_without_a_compiler():
    """As those do who look for a fault: slowly, and with the same result."""
    program = """
import numpy as np
from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.vocabulary import character_vocabulary
options = DecodingOptions(word_frequencies=None, pronunciations=None, variants=[], min_probability=0.01)
search = BiasedBeamSearch(character_vocabulary(" abc"), options, threads=1)
log_probs = np.log(np.random.default_rng(0).dirichlet(np.full(5, 0.2), (8, 30))).astype(np.float32)
entities = search.compile(["ab", "ca b"]).joined(search.compile(["abc", "ca"]))
for (each,) in search.decode(log_probs, lists=entities):
    print(each.text, [(span.entity, span.start, span.end, round(span.probability, 3)) for span in each.spans])
"""
    shown = []
    for off in "01":
        env = dict(os.environ, NUMBA_DISABLE_JIT=off)
        shown.append(subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, env=env, text=True))
    assert shown[0] == shown[1] and all(f"'{entity}'" in shown[0] for entity in ("ab", "ca b", "abc", "ca"))


def add(a, b):
    return a + b


@pytest.mark.parametrize("method", ["load_overload", "save_overload"])
def test_a_cache_that_fails_later(method, monkeypatch, caplog, tmp_path):
    """A full disk, or the files of another user."""

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiled, "_told", [])
    monkeypatch.setattr(compiled.FunctionCache, method, fail)
    with caplog.at_level(logging.WARNING, logger="nemo_bias"):
        assert compiled.njit(add)(1, 2) == 3 and compiled.njit(add)(1.0, 2.0) == 3
    [record] = caplog.records
    assert NOTICE in record.getMessage()
    assert "No space left on device" in caplog.text


def test_a_damaged_cache(tmp_path):
    program = PROGRAM + "print('told', __import__('nemo_bias.compiled').compiled._told)"
    env = dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path))
    for _ in range(2):
        shown = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, env=env, text=True)
        for index in tmp_path.rglob("*.nbi"):
            index.write_bytes(b"cut off")
    assert "distance 0.0" in shown and "told []" not in shown


def test_without_numba():
    env = dict(os.environ, NUMBA_DISABLE_JIT="1")
    program = "from nemo_bias.compiled import njit\nprint(njit(lambda a: a + 1)(1), njit(inline='always')(lambda a: a)(3))"
    assert subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, env=env, text=True) == "2 3\n"
