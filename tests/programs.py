"""Runs Python programs in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "scripts" / "demo"


def run(*arguments, fails=False, **environment):
    """Runs Python with the arguments; returns what it printed."""
    env = {key: value for key, value in os.environ.items() if key != "NEMO_BIAS"}
    env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    shown = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, shown[-4000:]
    return done.stdout if not fails else shown


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def clips_manifest(path, count):
    """Writes a manifest of the first bundled clips, with absolute paths; returns its path."""
    items = read_lines(DEMO / "clips.jsonl")[:count]
    for item in items:
        item["audio_filepath"] = str(DEMO / item["audio_filepath"])
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path
