"""Programs of a user who may read everything and write nothing: neither the package nor a home, as in many containers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
READS_ALL = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")  # Python itself may lie in root's home


def unwritable_copy(folder: Path) -> Path:
    """A copy of the packages in a new folder, without compiled code, in which nothing can be written."""
    for package in ("nemo_bias", "hydra_plugins"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


def run_unprivileged(packages: Path, program: str, **environment: str) -> str:
    """Runs a Python program, which must succeed; returns what it printed, errors included."""
    as_user = (*NOBODY, *READS_ALL) if os.getuid() == 0 else ()
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"}
    env |= {"CUDA_VISIBLE_DEVICES": ""} | environment

    def run(source: str) -> subprocess.CompletedProcess[str]:
        command = [*as_user, sys.executable, "-c", source]
        return subprocess.run(command, cwd=packages, env=env, capture_output=True, text=True, timeout=300)

    if as_user and (not shutil.which(as_user[0]) or run("").returncode):
        pytest.skip("no program can be run as another user here")
    done = run(program)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr
