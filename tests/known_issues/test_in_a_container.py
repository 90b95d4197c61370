"""What users of containers saw who can write neither the package nor a home."""

from __future__ import annotations

import pytest
from unprivileged import run_unprivileged, unwritable_copy


@pytest.fixture(scope="module")
def nobody(tmp_path_factory):
    return unwritable_copy(tmp_path_factory.mktemp("container") / "packages")


@pytest.mark.parametrize("switch", ["on", "off"])
def test_cannot_cache_function_no_locator_available(nobody, switch):
    program = "import nemo_bias.integration.registration.hook, nemo_bias.decoder.search, nemo_bias.pronunciation.index"
    shown = run_unprivileged(nobody, program, NEMO_BIAS=switch)
    assert shown.count("compiled code cannot be kept") == 1


def test_permission_denied_for_the_cache_of_pronunciations(nobody):
    program = """
from nemo_bias.pronunciation import Pronouncer
words = [f"zor{a}{b}lat" for a in "aeiou" for b in "bdgklmnprst"]
print("said", len([said for said in Pronouncer().words(words) if said]), "of", len(words))
"""
    assert "said 55 of 55" in run_unprivileged(nobody, program)
    assert "said 55 of 55" in run_unprivileged(nobody, program, XDG_CACHE_HOME="/proc")
