"""The phone head inside NeMo: beside the contextual part and without it, trained, saved, and heard by the decoder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import set_anew
from omegaconf import OmegaConf
from programs import ROOT
from programs import run as run_python
from test_adapter_nemo import (
    NAMES,
    adapted,
    adapter_file,
    batch,
    clips,
    fit,
    manifest,
    outputs,
    predict,
    restore,
    same,
    states,
    stock,
    transcribe_in_pairs,
    unfreeze_all,
    with_adapter,
    write_manifest,
)
from test_integration import DEMO, decoding_config, texts, transcribe, transcribe_manifest
from test_scripts import BIASED

from nemo_bias import load_adapter
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.integration.encoder.adapter_file import AdapterFileError
from nemo_bias.integration.encoder.biasing_adapter import Offer, biasing_adapters
from nemo_bias.pronunciation import PHONES

__all__ = ["adapted", "adapter_file", "batch", "clips", "manifest", "stock"]  # fixtures
HEAD = {"phones": {"layer": 7, "sub_frames": 3, "hidden_width": 24}}
ALONE = HEAD | {"contextual": None}
pytestmark = pytest.mark.usefixtures("one_thread")


def listen(model, batch, phrases=()):
    """What an adapter finds in a batch whose phones are wanted."""
    (adapter,) = biasing_adapters(model).values()
    model.eval()
    entities = adapter.encode(tuple(phrases), model.tokenizer.text_to_ids) if phrases else None
    adapter.offer(Offer(entities, phones=True))
    with torch.no_grad():
        found = model(**batch)
    adapter.offer(None)
    return found, adapter.found


@pytest.fixture(scope="module")
def with_head(adapter_file):
    """A model whose adapter has both parts; the contextual one is that of `adapted`."""
    model = restore()
    load_adapter(model, adapter_file, changes=HEAD)
    return model


@pytest.fixture(scope="module")
def head_alone():
    return with_adapter(restore(), effect=False, **ALONE)


@pytest.fixture
def heard(monkeypatch):
    """What the decoder core gets of each batch: shape of the log-probs, and the phones."""
    batches = []
    original = BiasedBeamSearch.decode

    def decode(self, log_probs, *args, phones=None, **kwargs):
        batches.append((log_probs.shape, phones))
        return original(self, log_probs, *args, phones=phones, **kwargs)

    monkeypatch.setattr(BiasedBeamSearch, "decode", decode)
    return batches


# Parts


def test_a_head_listens_and_changes_nothing(stock, with_head, head_alone, batch):
    (plain, lengths, _) = outputs(stock, batch)
    for model in (with_head, head_alone):
        found, heard = listen(model, batch)
        assert same(found, outputs(stock, batch)) and heard.biasing is None
        assert heard.phones.shape == (2, 3 * plain.shape[1], len(PHONES) + 1)
        assert torch.equal(heard.lengths, lengths)


def test_a_head_listens_to_its_layer(head_alone, batch):
    (adapter,) = biasing_adapters(head_alone).values()
    outputs_of_layer = []
    hook = head_alone.encoder.layers[6].register_forward_hook(lambda module, args, output: outputs_of_layer.append(output))
    _, heard = listen(head_alone, batch)
    hook.remove()
    with torch.no_grad():
        assert torch.equal(adapter.phones(outputs_of_layer[0], heard.lengths), heard.phones)
    assert adapter.tapped == [7]


def test_both_parts_work_as_each_alone(adapted, with_head, head_alone, batch):
    both, found = listen(with_head, batch, NAMES)
    assert same(both, outputs(adapted, batch, NAMES))
    assert torch.equal(listen(with_head, batch)[1].phones, found.phones)
    assert biasing_adapters(with_head)["names"].tapped == [4, 6, 7, 8, 10, 12]


def test_the_layer_is_chosen_by_the_depth_of_the_encoder():
    (adapter,) = biasing_adapters(with_adapter(restore(), effect=False, contextual=None, phones={})).values()
    assert adapter.tapped == [8]


def test_wrong_options_are_named(stock, batch):
    model = restore()
    for config, message in (
        ({"contextual": None}, r"adapter\.contextual and adapter\.phones are null; an adapter needs one of them"),
        ({"phones": {"subframes": 2}}, r"adapter\.phones\.subframes: unknown option, did you mean .sub_frames.\?"),
        ({"phones": {"layer": 13}}, r"phones\.layer: there is no layer 13; the encoder has 12, from 1"),
        ({"phones": 3}, r"adapter\.phones: 3 is no mapping of options"),
        ({"training": {"parts": ["phone"]}}, r"adapter\.training\.parts is \['phone'\]; name contextual, phones or both"),
    ):
        with pytest.raises(Exception, match=message):
            with_adapter(model, effect=False, **config)
    assert same(outputs(model, batch), outputs(stock, batch))


def test_what_a_part_cannot_do_is_refused(adapted, head_alone):
    with pytest.raises(ValueError, match="the adapter has no contextual part"):
        biasing_adapters(head_alone)["names"].encode(tuple(NAMES), head_alone.tokenizer.text_to_ids)
    with pytest.raises(ValueError, match="the adapter has no phone head"):
        biasing_adapters(adapted)["names"].offer(Offer(phones=True))


# Files


def test_a_saved_head_is_the_same(with_head, head_alone, batch, tmp_path):
    for model in (with_head, head_alone):
        model.save_adapters(str(tmp_path / "adapters.pt"))
        loaded = restore()
        load_adapter(loaded, tmp_path / "adapters.pt")
        phrases = NAMES if model is with_head else ()
        (ours, found), (theirs, expected) = listen(loaded, batch, phrases), listen(model, batch, phrases)
        assert same(ours, theirs) and torch.equal(found.phones, expected.phones)
        model.save_to(str(tmp_path / "model.nemo"))
        assert torch.equal(listen(restore(tmp_path / "model.nemo"), batch)[1].phones, expected.phones)


def test_files_from_before_there_were_heads(adapted, adapter_file, batch, tmp_path):
    content = torch.load(adapter_file, weights_only=False)
    for key in ("phones", "training"):
        content["__cfg__"]["names"].pop(key, None)
    torch.save(content, tmp_path / "old.pt")
    model = restore()
    adapter = load_adapter(model, tmp_path / "old.pt")
    assert adapter.phones is None and same(outputs(model, batch, NAMES), outputs(adapted, batch, NAMES))


def test_a_file_gets_a_head(adapted, adapter_file, batch, tmp_path):
    model = restore()
    adapter = load_adapter(model, adapter_file, changes=HEAD | {"training": {"parts": ["phones"]}})
    assert adapter.phones.sub_frames == 3 and adapter.training_config.parts == ["phones"]
    assert adapter.training_config.common_words == 10  # as in the file
    assert same(outputs(model, batch, NAMES), outputs(adapted, batch, NAMES))
    written = OmegaConf.to_container(model.cfg.adapters.names)  # every default, so that it may change
    assert written["phones"] == {**HEAD["phones"], "context_frames": 3}
    assert written["training"]["keep_weight"] == 4.0
    with pytest.raises(AdapterFileError, match=r"adapters\.pt: .*unknown option"):
        load_adapter(restore(), adapter_file, changes={"phones": {"hidden": 3}})
    with pytest.raises(AdapterFileError, match=r"(?s)adapters\.pt: .*size mismatch"):
        load_adapter(restore(), adapter_file, changes={"contextual": {"recurrent_width": 16}})


def test_a_file_whose_head_is_missing_is_refused(with_head, tmp_path):
    with_head.save_adapters(str(tmp_path / "adapters.pt"))
    content = torch.load(tmp_path / "adapters.pt", weights_only=False)
    (key,) = (key for key in content if key != "__cfg__")
    content[key] = [{k: v for k, v in content[key][0].items() if ".phones." not in k}]
    torch.save(content, tmp_path / "broken.pt")
    with pytest.raises(AdapterFileError, match=r"(?s)broken\.pt: .*Missing key.*phones"):
        load_adapter(restore(), tmp_path / "broken.pt")


# In decoding


@pytest.mark.parametrize("run", [transcribe_in_pairs, predict])
@pytest.mark.parametrize("kind", ["both", "alone", "list kept from the contextual part"])
def test_the_decoder_hears_the_phones(with_head, head_alone, clips, heard, run, kind):
    model = head_alone if kind == "alone" else with_head
    set_anew(model, NAMES, adapter=kind == "both", threads=1)
    found = []
    (adapter,) = biasing_adapters(model).values()
    hook = model.encoder.register_forward_hook(lambda *args: found.append(adapter.found))
    run(model, clips[:4])
    hook.remove()
    assert len(heard) == len(found) == (2 if run is transcribe_in_pairs else 4)
    for ((size, frames, _), phones), expected in zip(heard, found, strict=True):
        assert phones.shape == (size, 3 * frames, len(PHONES) + 1) and phones.dtype == np.float32
        assert np.array_equal(phones, expected.phones.numpy())
        assert (expected.biasing is not None) == (kind == "both")
    assert not adapter.active


def test_a_head_changes_no_text(head_alone, stock, clips):
    for options in ({}, {"method": "greedy"}):
        set_anew(stock, NAMES, **options)
        expected = transcribe(stock, clips[:2])
        set_anew(head_alone, NAMES, **options)
        assert texts(transcribe(head_alone, clips[:2])) == texts(expected)


def test_each_utterance_has_its_own_phones(head_alone, clips, heard, tmp_path):
    """Only those with a list are decoded, and padding does not count."""
    items = [{**clips[0]}, {**clips[1], "entities": NAMES}]
    set_anew(head_alone, [], threads=1)
    transcribe_manifest(head_alone, items, tmp_path / "m.jsonl", batch_size=2)
    (((size, frames, _), together),) = heard
    heard.clear()
    transcribe_manifest(head_alone, items[1:], tmp_path / "m.jsonl", batch_size=1)
    (((_, own_frames, _), alone),) = heard
    assert size == 1 and own_frames <= frames
    np.testing.assert_allclose(together[0, : 3 * (own_frames - 4)], alone[0, : 3 * (own_frames - 4)], atol=0.1)


def test_a_head_does_nothing_unless_it_is_needed(with_head, head_alone, clips, heard):
    """With greedy decoding, without a list, or with NeMo's own decoding."""
    calls = []
    hooks = [
        biasing_adapters(model)["names"].phones.register_forward_hook(lambda *args: calls.append(1))
        for model in (with_head, head_alone)
    ]
    for model in (with_head, head_alone):
        set_anew(model, NAMES, method="greedy")
        transcribe(model, clips[:1])
        set_anew(model, [])
        transcribe(model, clips[:1])
        model.change_decoding_strategy(decoding_config(model, "greedy_batch"), verbose=False)
        transcribe(model, clips[:1])
    assert not calls and not heard
    set_anew(head_alone, NAMES)
    transcribe(head_alone, clips[:1])
    for hook in hooks:
        hook.remove()
    assert calls == [1]


def test_of_two_heads_the_first_listens(clips, heard):
    model = with_adapter(with_adapter(restore(), effect=False, **ALONE), effect=False, name="others", **HEAD)
    set_anew(model, NAMES, threads=1)
    transcribe(model, clips[:1])
    first, second = biasing_adapters(model).values()
    assert np.array_equal(heard[0][1], first.found.phones.numpy())
    assert second.found.phones is None and second.found.biasing is not None


PROGRAM = """
import json, runpy, sys
import nemo_bias
from nemo_bias.decoder.search import BiasedBeamSearch

original = BiasedBeamSearch.decode

def decode(self, log_probs, *args, phones=None, **kwargs):
    print("HEARD", json.dumps([log_probs.shape, getattr(phones, "shape", None)]))
    return original(self, log_probs, *args, phones=phones, **kwargs)

BiasedBeamSearch.decode = decode
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_programs_hear_the_phones(with_head, clips, tmp_path):
    """In the shape of transcribe_speech.py and transcribe_speech_parallel.py."""
    with_head.save_adapters(str(tmp_path / "adapters.pt"))
    lines = write_manifest(tmp_path / "clips.jsonl", clips[:2])
    shown = run_python(
        *("-c", PROGRAM, ROOT / "tests" / "nemo_program.py", f"model_path={DEMO / 'demo.nemo'}"),
        *(f"dataset_manifest={lines}", f"output_filename={tmp_path / 'out.json'}", "predict=true", BIASED),
        f"ctc_decoding.biased_beam.entities=[{NAMES[0]}]",
        f"ctc_decoding.biased_beam.adapter_file={tmp_path / 'adapters.pt'}",
    )
    shapes = [json.loads(line.partition("HEARD ")[2]) for line in shown.splitlines() if "HEARD " in line]
    assert len(shapes) == 6  # two clips in three ways
    for (size, frames, _), phones in shapes:
        assert phones == [size, 3 * frames, len(PHONES) + 1]


# Training


def test_training_a_head_changes_nothing_else(stock, batch, manifest, adapter_file):
    model = restore()
    load_adapter(model, adapter_file, changes=HEAD | {"training": {"parts": ["phones"]}})
    unfreeze_all(model)
    base, adapter = states(model)
    trainer = fit(model, manifest, validation=manifest)
    base_after, adapter_after = states(model)
    assert [key for key in base if not torch.equal(base[key], base_after[key])] == []
    changed = {key for key in adapter if not torch.equal(adapter[key], adapter_after[key])}
    assert changed == {key for key in adapter if ".phones." in key}
    assert {name for name, p in model.named_parameters() if p.requires_grad} == changed
    assert trainer.callback_metrics["adapter_loss/encoder/adapter_layer/names"] > 0
    assert float(trainer.callback_metrics["val_phone_error_rate"]) > 0.5
    assert "val_entity_recall" not in trainer.callback_metrics
    assert same(outputs(model, batch), outputs(stock, batch))


def test_both_parts_are_trained(manifest, tmp_path, nemo_log):
    model = with_adapter(restore(), effect=False, **HEAD)
    _, before = states(model)
    trainer = fit(model, manifest, validation=manifest)
    _, after = states(model)
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert {"val_phone_error_rate", "val_entity_recall"} <= trainer.callback_metrics.keys()
    model.save_adapters(str(tmp_path / "adapters.pt"))  # as NeMo's script does
    recall, errors, where = [message for message in nemo_log if "nemo_bias: " in message]
    value = f"{100 * float(trainer.callback_metrics['val_entity_recall']):.1f}"
    assert recall == f"INFO nemo_bias: entity recall of the validation data: {value} % after 2 steps"  # the last validation
    assert errors.startswith("INFO nemo_bias: phone error rate of the validation data: ")
    assert where.endswith(f"adapters.pt; use it with ctc_decoding.biased_beam.adapter_file={tmp_path / 'adapters.pt'}")


def test_a_head_is_trained_without_a_contextual_part(manifest):
    model = with_adapter(restore(), effect=False, **ALONE)
    _, before = states(model)
    fit(model, manifest)
    _, after = states(model)
    assert before and [key for key in before if torch.equal(before[key], after[key])] == []


def test_a_part_that_is_not_there_cannot_be_trained(manifest):
    model = with_adapter(restore(), effect=False, training={"parts": ["phones"]})
    with pytest.raises(ValueError, match=r"adapter\.training\.parts is \['phones'\], of which the adapter has none"):
        fit(model, manifest, steps=1)


def test_the_script_gives_an_adapter_a_head(adapter_file, clips, tmp_path):
    """With its cache of encoder layers; the error rate is that of what the head hears in the audio."""
    import kaldialign

    from nemo_bias.adapter.phone_labels import PhoneLabels
    from nemo_bias.decoder.transcript import collapsed

    data = write_manifest(tmp_path / "clips.jsonl", clips)
    shown = run_python(
        *("scripts/train_adapter.py", DEMO / "demo.nemo", "--start", adapter_file, "--train", data),
        *("--validation", data, "--output", tmp_path / "out.pt", "--copies", "1", "--steps", "30"),
        *("--logs", tmp_path / "logs", "phones.hidden_width=64", "training.parts=[phones]"),
    )
    assert "Training: phones" in shown and "the adapter 'names'" in shown
    old, new = (load_adapter(restore(), path) for path in (adapter_file, tmp_path / "out.pt"))
    assert all(torch.equal(value, new.contextual.state_dict()[key]) for key, value in old.contextual.state_dict().items())
    model = restore()
    load_adapter(model, tmp_path / "out.pt")
    labels = PhoneLabels()
    errors = spoken = 0
    from nemo.collections.asr.parts.preprocessing.segment import AudioSegment

    for clip in clips:
        signal = torch.from_numpy(AudioSegment.from_file(clip["audio_filepath"], target_sr=16000).samples)[None]
        _, found = listen(model, {"input_signal": signal, "input_signal_length": torch.tensor([signal.shape[1]])})
        own = labels.of(clip["text"])
        errors += kaldialign.edit_distance(own, collapsed(found.phones[0].argmax(dim=-1).numpy(), len(PHONES)))["total"]
        spoken += len(own)
    assert logged(tmp_path / "logs", "val_phone_error_rate") == pytest.approx(errors / spoken, abs=0.05)


def logged(folder, name):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (path,) = folder.rglob("events.out.tfevents*")
    events = EventAccumulator(str(path)).Reload()
    return events.Scalars(name)[-1].value
