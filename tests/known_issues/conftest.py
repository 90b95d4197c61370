"""A recogniser that hears what a test says: a NeMo model of letters whose log-probs are made up."""

from __future__ import annotations

import json

import pytest
from conftest import DEMO, restored_demo, set_anew

LOWER = [" ", *"abcdefghijklmnopqrstuvwxyz'"]
NOTHING = "-"  # in what is heard or said: no letter, where the other has one


class Listener:
    """A NeMo CTC model that is handed what it hears.

    Args:
        labels: its letters.
    """

    def __init__(self, labels):
        import torch
        from nemo.collections.asr.models import EncDecCTCModel
        from omegaconf import OmegaConf
        from test_integration import small_modules

        torch.manual_seed(1)
        config = small_modules(len(labels), labels) | {"labels": labels, "optim": {"name": "adamw"}}
        self.model = EncDecCTCModel(OmegaConf.create(config)).eval()
        self.labels = labels

    def log_probs(self, heard, said=None, sure=0.6):
        """[T, V] log-probs: each letter takes a frame, and a blank follows it.

        Args:
            heard: the text that greedy decoding makes of them.
            said: the same text but for what was said instead, letter by letter; it has most of what is left.
            sure: probability of what is heard where something else was said.
        """
        import torch

        rows = []
        for first, second in zip(heard, said or heard, strict=True):
            row = torch.full((len(self.labels) + 1,), 1e-4)
            row[self._index(first)] = 0.99 if first == second else sure
            if first != second:
                row[self._index(second)] = 0.98 - sure
            blank = torch.full((len(self.labels) + 1,), 1e-6)
            blank[-1] = 1
            rows += [row, blank]
        probabilities = torch.stack(rows)
        return (probabilities / probabilities.sum(-1, keepdim=True)).log()

    def decode(self, log_probs, **options):
        """NeMo's hypothesis."""
        import torch

        lengths = torch.tensor([len(log_probs)])
        (hypothesis,) = self.model.decoding.ctc_decoder_predictions_tensor(
            log_probs[None], lengths, return_hypotheses=True, **options
        )
        return hypothesis

    def write(self, entities, heard, said=None, sure=0.6, **options):
        """What is written of something that is heard, with a list as `set_entities` takes it."""
        set_anew(self.model, entities, **options)
        return self.decode(self.log_probs(heard, said, sure)).text

    def _index(self, letter):
        return len(self.labels) if letter == NOTHING else self.labels.index(letter)


@pytest.fixture(scope="package")
def listener():
    """Writes small letters."""
    return Listener(LOWER)


@pytest.fixture(scope="package")
def capitals():
    """Writes capital letters only."""
    return Listener([letter.upper() for letter in LOWER])


@pytest.fixture(scope="package")
def demo():
    """The bundled checkpoint."""
    return restored_demo()


@pytest.fixture(scope="package")
def clips():
    """Paths of the bundled clips."""
    return [str(DEMO / json.loads(line)["audio_filepath"]) for line in (DEMO / "clips.jsonl").read_text().splitlines()]
