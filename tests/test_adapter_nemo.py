"""The biasing adapter inside NeMo, on the bundled checkpoint and on tiny models with random weights."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from test_integration import DEMO, decoding_config, small_modules, texts, transcribe, transcribe_manifest

from nemo_bias import BiasingAdapterConfig, load_adapter, set_entities
from nemo_bias.adapter.config import AdapterTrainingConfig, ContextualAdapterConfig
from nemo_bias.integration.adapter_config import RecogniserConfig
from nemo_bias.integration.adapter_file import AdapterFileError
from nemo_bias.integration.adapter_training import AdapterTraining
from nemo_bias.integration.biasing_adapter import BiasingAdapter, Offer, biasing_adapters
from nemo_bias.integration.encoder_biasing import tokenizer_of

TARGET = "nemo_bias.BiasingAdapter"
NAMES = ["frank hinkins", "museum", "pramod sawant", "david duke", "legrand powers"]
ADAPTER = {  # as a script would give it
    "_target_": TARGET,
    "contextual": {"embedding_width": 192, "recurrent_width": 32, "context_layers": 1},
    "training": {"common_words": 10, "fewest_entities": 3, "most_entities": 8, "drop_rate": 0.0, "empty_rate": 0.0},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The models are small: more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def restore(path=DEMO / "demo.nemo"):
    from nemo.collections.asr.models import ASRModel

    model = ASRModel.restore_from(str(path), map_location="cpu").eval()
    model.preprocessor.featurizer.dither = 0.0
    return model


def with_adapter(model, effect=True, name="names", **config):
    """The model with an adapter, whose output weights are random, unless it is to be as it starts."""
    torch.manual_seed(2)
    model.add_adapter(name, cfg=OmegaConf.create(ADAPTER | config))
    if effect:
        torch.nn.init.normal_(biasing_adapters(model)[name].contextual.output.weight)
    return model


@pytest.fixture(scope="module")
def stock():
    return restore()


@pytest.fixture(scope="module")
def adapted():
    return with_adapter(restore())


@pytest.fixture(scope="module")
def adapter_file(adapted, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("adapter") / "adapters.pt")
    adapted.save_adapters(path)
    return path


@pytest.fixture(scope="module")
def clips():
    """Some of the bundled clips, with absolute paths."""
    items = [json.loads(line) for line in (DEMO / "clips.jsonl").read_text().splitlines()[:6]]
    return [{**item, "audio_filepath": str(DEMO / item["audio_filepath"])} for item in items]


@pytest.fixture(scope="module")
def batch(clips):
    """Two clips of different length."""
    from nemo.collections.asr.parts.preprocessing.segment import AudioSegment

    signals = [torch.from_numpy(AudioSegment.from_file(c["audio_filepath"], target_sr=16000).samples) for c in clips[2:4]]
    return {
        "input_signal": torch.nn.utils.rnn.pad_sequence(signals, batch_first=True),
        "input_signal_length": torch.tensor([len(signal) for signal in signals]),
    }


@contextmanager
def offered(model, phrases=NAMES):
    """The model's adapters know a list."""
    for adapter in biasing_adapters(model).values():
        adapter.offer(Offer(adapter.encode(tuple(phrases), tokenizer_of(model))))
    yield model
    for adapter in biasing_adapters(model).values():
        adapter.offer(None)


def outputs(model, batch, phrases=None):
    """Log-probs, lengths and best tokens of a batch."""
    model.eval()
    with torch.no_grad(), offered(model, phrases) if phrases else offered_nothing(model):
        return model(**batch)


# In evaluation


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_an_adapter_without_a_list_changes_nothing(stock, adapted, batch):
    assert same(outputs(adapted, batch), outputs(stock, batch))
    assert not same(outputs(adapted, batch, NAMES), outputs(stock, batch))
    assert same(outputs(adapted, batch), outputs(stock, batch))


def test_a_new_adapter_changes_nothing(stock, batch):
    new = with_adapter(restore(), effect=False)
    assert same(outputs(new, batch, NAMES), outputs(stock, batch))
    assert biasing_adapters(new)["names"].found is not None


def test_a_disabled_adapter_changes_nothing(stock, batch):
    model = with_adapter(restore())
    expected = outputs(model, batch, NAMES)
    model.set_enabled_adapters("names", enabled=False)
    assert same(outputs(model, batch, NAMES), outputs(stock, batch))
    model.set_enabled_adapters(enabled=True)
    assert same(outputs(model, batch, NAMES), expected)
    model.set_enabled_adapters(enabled=False)
    assert model.get_enabled_adapters() == []
    assert same(outputs(model, batch, NAMES), outputs(stock, batch))


@pytest.mark.parametrize("value", ["off", "0", "False", " no "])
def test_the_off_switch(stock, adapted, batch, monkeypatch, value):
    monkeypatch.setenv("NEMO_BIAS", value)
    assert same(outputs(adapted, batch, NAMES), outputs(stock, batch))
    monkeypatch.setenv("NEMO_BIAS", "on")
    assert not same(outputs(adapted, batch, NAMES), outputs(stock, batch))


def test_adapters_of_nemo_work_beside_ours(stock, batch):
    """They are in every layer, ours is on the encoder."""
    model = with_adapter(restore())
    theirs = {"_target_": "nemo.collections.common.parts.adapter_modules.LinearAdapter", "in_features": 192, "dim": 4}
    model.add_adapter("linear", cfg=OmegaConf.create(theirs))
    assert model.get_enabled_adapters() == ["linear", "names"]
    assert same(outputs(model, batch), outputs(stock, batch))
    model.set_enabled_adapters(enabled=False)
    model.set_enabled_adapters("linear", enabled=True)
    assert model.get_enabled_adapters() == ["linear"]
    assert same(outputs(model, batch, NAMES), outputs(stock, batch))
    model.set_enabled_adapters("names", enabled=True)
    assert not same(outputs(model, batch, NAMES), outputs(stock, batch))


# Files


def test_saved_adapters_load_into_a_stock_checkpoint(adapted, adapter_file, batch):
    model = restore()
    adapter = load_adapter(model, adapter_file)
    assert isinstance(adapter, BiasingAdapter) and biasing_adapters(model) == {"names": adapter}
    assert not adapter.training and model.get_enabled_adapters() == ["names"]
    assert same(outputs(model, batch, NAMES), outputs(adapted, batch, NAMES))


def test_a_saved_model_keeps_its_adapter(adapted, batch, tmp_path):
    adapted.save_to(str(tmp_path / "adapted.nemo"))
    model = restore(tmp_path / "adapted.nemo")
    assert model.cfg.target == restore().cfg.target
    assert same(outputs(model, batch, NAMES), outputs(adapted, batch, NAMES))


def test_one_of_several_adapters_is_loaded(adapter_file, batch, tmp_path):
    both = with_adapter(restore(), name="names")
    with_adapter(both, name="other_names", contextual={"heads": 2})
    both.save_adapters(str(tmp_path / "both.pt"))
    path = str(tmp_path / "both.pt")
    with pytest.raises(AdapterFileError, match=rf"{path} has the biasing adapters names, other_names; say which"):
        load_adapter(restore(), path)
    with pytest.raises(AdapterFileError, match=rf"{path} has no biasing adapter 'mames'; it has names, other_names"):
        load_adapter(restore(), path, "mames")
    model = restore()
    assert load_adapter(model, path, "other_names").contextual.config.heads == 2
    both.set_enabled_adapters("names", enabled=False)
    assert same(outputs(model, batch, NAMES), outputs(both, batch, NAMES))


def altered(adapter_file, path, **recogniser):
    """The file as if it were made for another recogniser."""
    content = torch.load(adapter_file, weights_only=False)
    for key, value in recogniser.items():
        OmegaConf.update(content["__cfg__"], f"names.recogniser.{key}", value)
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize(
    ("recogniser", "message"),
    [
        ({"vocabulary": "0" * 16}, "a recogniser with other tokens; use the checkpoint that it was trained with, or train one"),
        ({"width": 512}, "a recogniser with width 512, this one has 192; use the checkpoint"),
        ({"encoder_layers": 17}, "a recogniser with encoder_layers 17, this one has 12; use the checkpoint"),
    ],
)
def test_adapters_of_other_recognisers_are_refused(adapter_file, tmp_path, recogniser, message):
    path = altered(adapter_file, tmp_path / "other.pt", **recogniser)
    model = restore()
    with pytest.raises(AdapterFileError, match=rf"{path}: adapter 'names' was made for {message}"):
        load_adapter(model, path)
    assert not biasing_adapters(model) and "adapters" not in model.cfg
    made_for = OmegaConf.structured(RecogniserConfig(192, 192, 12, 256, load_fingerprint(adapter_file)) )
    with pytest.raises(ValueError, match=rf"adapter 'names' was made for {message}"):
        with_adapter(model, recogniser=made_for | recogniser)


def test_missing_and_broken_files_are_refused(stock, tmp_path):
    path = tmp_path / "names.pt"
    with pytest.raises(AdapterFileError, match=rf"{path}: there is no such file"):
        load_adapter(stock, path)
    path.write_text("frank hinkins\n")
    with pytest.raises(AdapterFileError, match=rf"{path}: not an adapter file that NeMo saved"):
        load_adapter(stock, path)
    torch.save({"names": []}, path)
    with pytest.raises(AdapterFileError, match=rf"{path}: not an adapter file that NeMo saved"):
        load_adapter(stock, path)
    with pytest.raises(AdapterFileError, match=r"demo\.nemo: not an adapter file that NeMo saved"):
        load_adapter(stock, DEMO / "demo.nemo")
