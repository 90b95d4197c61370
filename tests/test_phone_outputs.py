"""What a phone head gives for a data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nemo_bias.pronunciation import PHONES

DEMO = Path(__file__).resolve().parent.parent / "scripts" / "demo"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    """The bundled model with a phone head of random weights, and no contextual part."""
    from omegaconf import OmegaConf

    from nemo_bias.integration.encoder.adapter_config import BiasingAdapterConfig
    from nemo_bias.integration.model import restore_ctc_model
    from nemo_bias.options import typed_config

    model = restore_ctc_model(DEMO / "demo.nemo")
    torch.manual_seed(0)
    config = typed_config(BiasingAdapterConfig, {"contextual": None, "phones": {"layer": 8, "sub_frames": 2}}, "adapter")
    model.add_adapter("names", cfg=OmegaConf.structured(config))
    return model.eval()


def test_log_probs_of_a_set_are_those_of_the_model_in_the_sets_order(model, tmp_path):
    from nemo_bias.evaluation.adapter_evaluation import EncodedSet
    from nemo_bias.evaluation.recogniser import log_probs_of
    from nemo_bias.integration.encoder.biasing_adapter import Offer
    from nemo_bias.integration.training.layer_cache import encode_manifest

    adapter = model.encoder.adapter_layer["names"]
    items = [json.loads(line) for line in (DEMO / "clips.jsonl").read_text().splitlines()[:3]]
    manifest = tmp_path / "clips.jsonl"
    manifest.write_text("".join(json.dumps(item) + "\n" for item in items))
    cache = encode_manifest(model, adapter, manifest, 0, tmp_path / "cache", DEMO)
    found = EncodedSet(model, cache, items, [2, 0]).phone_log_probs(adapter)
    assert not adapter.active
    for item, own in zip([items[2], items[0]], found, strict=True):
        adapter.offer(Offer(phones=True))
        (alone,) = log_probs_of(model, [item], DEMO)
        expected = adapter.found.phones[0, : 2 * len(alone)].numpy()
        adapter.offer(None)
        assert own.shape == expected.shape and own.shape[1] == len(PHONES) + 1
        assert np.abs(own - expected).max() < 0.05  # half precision, and the batch's padding
