"""The biasing adapter inside NeMo, on the bundled checkpoint and on tiny models with random weights."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tarfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import set_anew
from omegaconf import OmegaConf
from test_integration import CHARACTERS, DEMO, assert_same_text, small_modules, texts, transcribe, transcribe_manifest

from nemo_bias import BiasingAdapterConfig, load_adapter
from nemo_bias.adapter.contextual_adapter import LEAST_ATTENTION
from nemo_bias.integration.batch import NOTHING, decoded_batch
from nemo_bias.integration.decoding.strategy import BiasedBeamInfer
from nemo_bias.integration.encoder.adapter_config import tokens_of
from nemo_bias.integration.encoder.adapter_file import AdapterFileError
from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter, Offer, biasing_adapters
from nemo_bias.integration.encoder.offering import tokenizer_of
from nemo_bias.integration.training.adapter_training import AdapterTraining

ROOT = Path(__file__).resolve().parent.parent
TARGET = "nemo_bias.BiasingAdapter"
NAMES = ["frank hinkins", "museum", "pramod sawant", "david duke", "legrand powers"]
ADAPTER = {  # as a script would give it
    "_target_": TARGET,
    "contextual": {"embedding_width": 192, "recurrent_width": 32, "context_layers": 1},
    "training": {"common_words": 10, "fewest_entities": 3, "most_entities": 8, "drop_rate": 0.0, "empty_rate": 0.0},
}
pytestmark = pytest.mark.usefixtures("one_thread")


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


def outputs(model, batch, phrases=()):
    """What the model makes of a batch, while its adapters know a list: log-probs, lengths and best tokens."""
    model.eval()
    adapters = biasing_adapters(model).values() if phrases else ()
    for adapter in adapters:
        adapter.offer(Offer(adapter.encode(tuple(phrases), tokenizer_of(model))))
    with torch.no_grad():
        found = model(**batch)
    for adapter in adapters:
        adapter.offer(None)
    return found


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def log_probs(model, items, **options):
    """[T, V] of each utterance, as NeMo returns them."""
    return [h.y_sequence for h in transcribe(model, items, **options)]


# In evaluation


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
    model.encoder.set_enabled_adapters(enabled=False)
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
    for name, other in (("other_names", "names"), ("names", "other_names")):  # NeMo saves both under the shorter name
        model = restore()
        assert load_adapter(model, path, name).contextual.config.heads == {"names": 1, "other_names": 2}[name]
        both.set_enabled_adapters(name, enabled=True)
        both.set_enabled_adapters(other, enabled=False)
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
        (
            {"vocabulary": "0" * 16},
            "a recogniser with other tokens; use the checkpoint that it was trained with, or train one",
        ),
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
    made_for = OmegaConf.to_container(torch.load(adapter_file, weights_only=False)["__cfg__"].names.recogniser)
    with pytest.raises(ValueError, match=rf"^adapter 'names' was made for {message}"):
        with_adapter(model, recogniser=made_for | recogniser)
    assert not biasing_adapters(model) and "adapters" not in model.cfg
    assert biasing_adapters(with_adapter(model, recogniser=made_for))


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


class Command:
    """Runs when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_code_in_a_file_does_not_run(stock, adapter_file, tmp_path):
    path, made = tmp_path / "names.pt", tmp_path / "made"
    content = torch.load(adapter_file, weights_only=False)
    config = OmegaConf.create({"names": {"_target_": TARGET, "enabled": Command(made)}}, flags={"allow_objects": True})
    for evil in (content | {"more": Command(made)}, content | {"__cfg__": Command(made)}, content | {"__cfg__": config}):
        torch.save(evil, path)
        with pytest.raises(AdapterFileError, match=rf"{path}: not an adapter file that NeMo saved"):
            load_adapter(stock, path)
    path.write_bytes(pickle.dumps(content | {"more": Command(made)}))
    with pytest.raises(AdapterFileError, match=rf"{path}: not an adapter file that NeMo saved"):
        load_adapter(stock, path)
    assert not made.exists()
    pickle.loads(path.read_bytes())
    assert made.exists()  # so it would have run


def test_the_config_in_a_file_makes_nothing_but_adapters(adapter_file, tmp_path):
    content = torch.load(adapter_file, weights_only=False)
    made = tmp_path / "made"
    OmegaConf.update(content["__cfg__"], "names.contextual", {"_target_": "os.mkdir", "path": str(made)}, force_add=True)
    torch.save(content, tmp_path / "names.pt")
    with pytest.raises(ValueError, match=r"contextual\._target_: unknown option"):
        load_adapter(restore(), tmp_path / "names.pt")
    assert not made.exists()


def test_a_file_without_a_biasing_adapter(stock, tmp_path):
    other = restore()
    other.replace_adapter_compatible_modules(update_config=False, verbose=False)
    theirs = {"_target_": "nemo.collections.common.parts.adapter_modules.LinearAdapter", "in_features": 192, "dim": 4}
    other.add_adapter("linear", cfg=OmegaConf.create(theirs))
    other.save_adapters(str(tmp_path / "linear.pt"))
    with pytest.raises(AdapterFileError, match=r"linear\.pt has no biasing adapter"):
        load_adapter(stock, tmp_path / "linear.pt")


def test_a_name_that_is_taken(adapted, adapter_file):
    before = biasing_adapters(adapted)["names"]
    load_adapter(adapted, adapter_file)
    assert biasing_adapters(adapted)["names"] is not before  # it takes the place of the old one
    with pytest.raises(ValueError, match="`names` already exists"):
        with_adapter(adapted)


def broken(content, kind):
    """An adapter file with something wrong in it."""
    state = content["names"][0]
    changes = {
        "no mapping": {"__cfg__": 3},
        "no weights": {"names": []},
        "weights missing": {"names": [dict(list(state.items())[1:])]},
        "weights of another size": {"names": [{key: value[..., :1] for key, value in state.items()}]},
    }
    return content | changes[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "no mapping",
        "no weights",
        "weights missing",
        "weights of another size",
    ],
)
def test_files_with_wrong_content_are_refused(adapter_file, tmp_path, kind):
    path = tmp_path / "names.pt"
    torch.save(broken(torch.load(adapter_file, weights_only=False), kind), path)
    model = restore()
    with pytest.raises(AdapterFileError, match=str(path)):
        load_adapter(model, path)
    assert not biasing_adapters(model)


# Configs and models


def test_unknown_options_are_named(stock, batch):
    model = restore()
    with pytest.raises(Exception, match=r"adapter\.contextual\.head: unknown option, did you mean .heads.\?"):
        with_adapter(model, contextual={"head": 2})
    with pytest.raises(Exception, match=r"adapter\.training\.most_entitys: unknown option, did you mean .most_entities.\?"):
        with_adapter(model, training={"most_entitys": 2})
    with pytest.raises(Exception, match=r"adapter\.contextual\.heads: 'many' does not fit"):
        with_adapter(model, contextual={"heads": "many"})
    with pytest.raises(Exception, match=r"contextual\.layers: there is no layer 13; the encoder has 12, from 1"):
        with_adapter(model, contextual={"layers": [3, 13]})
    assert same(outputs(model, batch), outputs(stock, batch))
    assert biasing_adapters(with_adapter(model))["names"].tapped == [4, 6, 8, 10, 12]


def test_a_file_loads_after_a_wrong_config(adapter_file):
    model = restore()
    with pytest.raises(Exception, match="unknown option"):
        with_adapter(model, contextual={"head": 2})
    load_adapter(model, adapter_file)


def test_chosen_layers_make_the_query(batch):
    model = with_adapter(restore(), contextual={"layers": [5, 2]})
    adapter = biasing_adapters(model)["names"]
    assert adapter.tapped == [2, 5]
    heard, asked = [], []
    for layer in (2, 5):
        model.encoder.layers[layer - 1].register_forward_hook(lambda module, args, output: heard.append(output))
    adapter.contextual.query.register_forward_hook(lambda module, args, output: asked.extend(args[0]))
    outputs(model, batch, NAMES)
    assert len(asked) == 2 and all(a is b for a, b in zip(asked, heard, strict=True))


def test_an_adapter_needs_add_adapter():
    with pytest.raises(ValueError, match=r"adapter\.recogniser is empty; add the adapter with model\.add_adapter"):
        BiasingAdapter()


def test_both_ways_of_writing_the_config(batch):
    structured, plain = restore(), restore()
    for model, cfg in ((structured, BiasingAdapterConfig()), (plain, OmegaConf.create({"_target_": TARGET}))):
        torch.manual_seed(3)
        model.add_adapter("names", cfg=cfg)
    assert structured.cfg.adapters.names.contextual.heads == 1
    a, b = (biasing_adapters(model)["names"].state_dict() for model in (structured, plain))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_other_encoders_are_refused(adapter_file):
    from nemo.collections.asr.models import EncDecCTCModel

    labels = [" ", *"abc"]
    config = small_modules(len(labels), labels) | {"labels": labels, "optim": {"name": "adamw"}}
    block = {"filters": 16, "repeat": 1, "kernel": [3], "stride": [1], "dilation": [1], "dropout": 0.0, "residual": False}
    convolutions = "nemo.collections.asr.modules.ConvASREncoder"
    config["encoder"] = {"_target_": convolutions, "feat_in": 32, "activation": "relu", "jasper": [block]}
    model = EncDecCTCModel(OmegaConf.create(config))
    with pytest.raises(TypeError, match="a biasing adapter needs a Conformer encoder; EncDecCTCModel has none"):
        model.add_adapter("names", cfg=BiasingAdapterConfig())
    with pytest.raises((TypeError, AdapterFileError), match="a biasing adapter needs a Conformer encoder"):
        load_adapter(model, adapter_file)


def test_lists_are_encoded_anew_when_the_weights_change(stock):
    adapter, tokenize = biasing_adapters(with_adapter(restore()))["names"], tokenizer_of(stock)
    first, other = (adapter.encode(names, tokenize) for names in (tuple(NAMES), tuple(NAMES[:2])))
    assert adapter.encode(tuple(NAMES), tokenize) is first and adapter.encode(tuple(NAMES[:2]), tokenize) is other
    assert len(first.lengths) == len(NAMES) and len(other.lengths) == 2
    adapter.load_state_dict({key: 2 * value for key, value in adapter.state_dict().items()})
    again = adapter.encode(tuple(NAMES), tokenize)
    assert not torch.equal(again.keys, first.keys) and torch.equal(again.lengths, first.lengths)


def test_character_model(clips):
    from nemo.collections.asr.models import EncDecCTCModel

    torch.manual_seed(1)
    config = small_modules(len(CHARACTERS), CHARACTERS) | {"labels": CHARACTERS, "optim": {"name": "adamw"}}
    model = EncDecCTCModel(OmegaConf.create(config)).eval()
    plain = log_probs(model, clips[:2])
    with_adapter(model)
    assert biasing_adapters(model)["names"].recogniser.vocabulary_size == len(CHARACTERS)
    assert tokenizer_of(model)("a b") == [CHARACTERS.index(character) for character in "a b"]
    set_anew(model, NAMES, method="greedy")
    assert not any(torch.equal(a, b) for a, b in zip(log_probs(model, clips[:2]), plain, strict=True))
    set_anew(model)
    assert same(log_probs(model, clips[:2]), plain)


def test_tokens_of_models(stock):
    decoder, other = (SimpleNamespace(vocabulary=labels) for labels in (["a", "b"], ["c"]))
    assert tokens_of(SimpleNamespace(decoder=decoder)) == ["a", "b"]
    assert tokens_of(SimpleNamespace(ctc_decoder=decoder, decoder=other)) == ["a", "b"]
    tokens = tokens_of(stock)
    assert len(tokens) == 256 and tokens[:3] == ["<unk>", "▁t", "he"]


def hybrid_model(folder):
    from nemo.collections.asr.models import EncDecHybridRNNTCTCBPEModel

    with tarfile.open(DEMO / "demo.nemo") as archive:
        for member in archive.getmembers():
            for name in ("tokenizer.model", "vocab.txt", "tokenizer.vocab"):
                if member.name.endswith(name):
                    (folder / name).write_bytes(archive.extractfile(member).read())
    torch.manual_seed(1)
    config = small_modules(-1, [])
    config["encoder"]["n_layers"] = 2
    head = config.pop("decoder")
    asr = "nemo.collections.asr.modules"
    config |= {
        "model_defaults": {"enc_hidden": 16, "pred_hidden": 8, "joint_hidden": 8},
        "tokenizer": {"dir": str(folder), "type": "bpe"},
        "decoder": {"_target_": f"{asr}.RNNTDecoder", "prednet": {"pred_hidden": 8, "pred_rnn_layers": 1}},
        "joint": {"_target_": f"{asr}.RNNTJoint", "jointnet": {"joint_hidden": 8, "activation": "relu"}},
        "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": 2}},
        "aux_ctc": {"ctc_loss_weight": 0.3, "decoder": head, "decoding": {"strategy": "greedy_batch"}},
        "loss": {"loss_name": "default", "warprnnt_numba_kwargs": {"fastemit_lambda": 0.0}},
        "optim": {"name": "adamw"},
    }
    return EncDecHybridRNNTCTCBPEModel(OmegaConf.create(config)).eval()


def test_hybrid_model(clips, tmp_path):
    some, model = clips[:2], hybrid_model(tmp_path)
    set_anew(model, NAMES, method="greedy")
    before = log_probs(model, some)
    with_adapter(model)
    after = log_probs(model, some)
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    model.set_enabled_adapters(enabled=False)
    assert same(log_probs(model, some), before)
    model.set_enabled_adapters(enabled=True)
    model.save_adapters(str(tmp_path / "hybrid.pt"))
    with pytest.raises(AdapterFileError, match=r"hybrid\.pt: .* was made for a recogniser with width 16, this one has 192"):
        load_adapter(restore(), tmp_path / "hybrid.pt")
    model.change_decoding_strategy(decoder_type="rnnt", verbose=False)  # the list is for the CTC decoder only
    with_list = texts(transcribe(model, some))
    model.set_enabled_adapters(enabled=False)
    assert texts(transcribe(model, some)) == with_list


# Transcription


def test_an_adapter_file_in_the_decoding_config(adapted, adapter_file, clips, stock):
    plain = transcribe(stock, clips, batch_size=2)
    model = restore()
    set_anew(model, NAMES, method="greedy", adapter_file=adapter_file)
    biased = transcribe(model, clips, batch_size=2)
    set_anew(adapted, NAMES, method="greedy")
    by_hand = transcribe(adapted, clips, batch_size=2)
    assert texts(biased) == texts(by_hand) != texts(plain)
    assert same([h.y_sequence for h in biased], [h.y_sequence for h in by_hand])
    assert texts(transcribe(model, clips, batch_size=2)) == texts(biased)  # it is loaded only once
    set_anew(model, NAMES, method="greedy", adapter_file=adapter_file, adapter=False)
    assert texts(transcribe(model, clips, batch_size=2)) == texts(plain)
    set_anew(model, method="greedy", adapter_file=adapter_file)
    assert texts(transcribe(model, clips, batch_size=2)) == texts(plain)
    set_anew(model, NAMES, method="greedy", adapter_file=adapter_file, adapter_weight=0.0)
    assert texts(transcribe(model, clips, batch_size=2)) == texts(plain)
    set_anew(model, NAMES, adapter_file=adapter_file)  # the default method decodes what the adapter has biased
    assert same(log_probs(model, clips, batch_size=2), [h.y_sequence for h in by_hand])


def test_the_off_switch_in_transcription(adapted, clips, stock, monkeypatch):
    plain = log_probs(stock, clips[:2])
    set_anew(adapted, NAMES, method="greedy")
    monkeypatch.setenv("NEMO_BIAS", "off")
    assert same(log_probs(adapted, clips[:2]), plain)


def spans(hypothesis):
    return [(span.entity, span.start, span.end) for span in getattr(hypothesis, "entity_spans", ())]


@pytest.mark.parametrize(
    ("method", "shared"), [("greedy", []), ("greedy", ["compact", "batman family"]), ("arcs", ["compact", "batman family"])]
)
def test_own_lists_reach_only_their_utterances(adapted, clips, tmp_path, method, shared):
    own = [NAMES[:1], [], [{"text": name} for name in NAMES[1:3]], NAMES[3]]
    items = [{**clip, "entities": entities} for clip, entities in zip(clips, own, strict=False)]
    del items[1]["entities"]
    set_anew(adapted, shared, method=method)
    together = transcribe_manifest(adapted, items, tmp_path / "m.jsonl", batch_size=4)
    apart = transcribe_manifest(adapted, items, tmp_path / "m.jsonl", batch_size=1)
    for item, entities, joint, single in zip(items, own, together, apart, strict=True):
        set_anew(adapted, [*shared, *([entities] if isinstance(entities, str) else entities)], method=method)
        (alone,) = transcribe(adapted, [item])
        assert single.text == joint.text == alone.text
        assert spans(single) == spans(joint) == spans(alone)
        torch.testing.assert_close(single.y_sequence, alone.y_sequence, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(joint.y_sequence, alone.y_sequence, rtol=1e-3, atol=1e-3)
    set_anew(adapted, [*shared, *NAMES[:4]], method=method)
    for single, with_all in zip(apart, log_probs(adapted, items, batch_size=1), strict=True):
        assert (single.y_sequence - with_all).abs().max() > 0.1


def test_an_entity_of_both_lists_counts_once(adapted, clips, tmp_path):
    set_anew(adapted, NAMES, method="greedy")
    expected = log_probs(adapted, clips[:1])
    (found,) = transcribe_manifest(adapted, [{**clips[0], "entities": NAMES[:2]}], tmp_path / "m.jsonl")
    torch.testing.assert_close(found.y_sequence, expected[0], rtol=1e-3, atol=1e-3)


def test_a_model_that_was_saved_with_an_adapter_file(adapter_file, clips, tmp_path):
    model = restore()
    listed = tmp_path / "names.txt"
    listed.write_text("\n".join(NAMES))  # a list that is given in Python is not saved
    set_anew(model, listed, method="greedy", adapter_file=adapter_file)
    expected = log_probs(model, clips[:2])
    model.save_to(str(tmp_path / "model.nemo"))
    restored = restore(tmp_path / "model.nemo")
    assert same(log_probs(restored, clips[:2]), expected)


def test_a_missing_adapter_file_is_named(tmp_path):
    model = restore()
    with pytest.raises(AdapterFileError, match=r"no\.pt: there is no such file"):
        set_anew(model, NAMES, adapter_file=str(tmp_path / "no.pt"))


# Log-probs without bias, for the decoder


@pytest.fixture
def handed(monkeypatch):
    """What our decoders get with each batch: the log-probs [B, T, V], and those without bias."""
    batches = []
    original = BiasedBeamInfer.__call__

    def call(self, decoder_output, decoder_lengths=None):
        batches.append((decoder_output.clone(), decoded_batch(decoder_output).plain))
        return original(self, decoder_output, decoder_lengths)

    monkeypatch.setattr(BiasedBeamInfer, "__call__", call)
    return batches


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory):
    return hybrid_model(tmp_path_factory.mktemp("hybrid"))


def predict(model, items):
    """One clip a batch, in the shape in which transcribe_speech_parallel.py gives them to the model."""
    from nemo.collections.asr.parts.preprocessing.segment import AudioSegment

    model.eval()
    for number, item in enumerate(items):
        signal = torch.from_numpy(AudioSegment.from_file(item["audio_filepath"], target_sr=16000).samples)[None]
        with torch.no_grad():
            model.predict_step((signal, torch.tensor([signal.shape[1]]), None, None, torch.tensor([number])), number)


def transcribe_in_pairs(model, items):
    transcribe(model, items, batch_size=2)


@pytest.fixture(params=["ctc", "hybrid"])
def fresh(request):
    """A model with a list and no adapter, which a test may change."""
    if request.param == "ctc":
        model = restore()
    else:
        model = request.getfixturevalue("hybrid")
        for adapter in list(biasing_adapters(model)):  # NeMo cannot remove one
            model.set_enabled_adapters(adapter, enabled=False)
    set_anew(model, NAMES)
    return model


@pytest.mark.parametrize("run", [transcribe_in_pairs, predict])
def test_decoders_get_the_log_probs_without_bias(fresh, clips, handed, run):
    run(fresh, clips[:4])
    without = [log_probs for log_probs, unbiased in handed if unbiased is None]
    assert len(without) == len(handed) == (2 if run is transcribe_in_pairs else 4)
    handed.clear()
    with_adapter(fresh, name=f"{run.__name__}_first")
    with_adapter(fresh, name=f"{run.__name__}_second")
    encoded = []
    hook = fresh.encoder.layers[0].register_forward_hook(lambda *args: encoded.append(1))
    run(fresh, clips[:4])
    hook.remove()
    assert len(encoded) == len(without)  # the encoder runs once a batch
    for (biased, unbiased), expected in zip(handed, without, strict=True):
        assert torch.equal(unbiased, expected)
        assert not torch.equal(biased, expected)
    assert decoded_batch(handed[0][0]) is NOTHING


def use_greedy_decoding(model):
    """NeMo's own, with confidences."""
    hybrid = hasattr(model, "ctc_decoding")
    config = (model.cfg.aux_ctc if hybrid else model.cfg).decoding.copy()
    OmegaConf.set_struct(config, False)
    config.strategy = "greedy_batch"
    config.pop("biased_beam", None)
    OmegaConf.update(config, "confidence_cfg.preserve_word_confidence", True, force_add=True)
    model.change_decoding_strategy(config, verbose=False, **({"decoder_type": "ctc"} if hybrid else {}))


def test_where_no_entity_is_found_an_adapter_changes_nothing(fresh, clips):
    use_greedy_decoding(fresh)
    theirs = transcribe(fresh, clips[:4], timestamps=True)
    set_anew(with_adapter(fresh, name="idle"), [{"text": name, "weight": 1e-9} for name in NAMES])
    ours = transcribe(fresh, clips[:4], timestamps=True)
    assert_same_text(ours, theirs)
    assert [h.entity_spans for h in ours] == [()] * 4
    for a, b in zip(ours, theirs, strict=True):
        assert not torch.equal(a.y_sequence, b.y_sequence)  # NeMo puts there what the adapter has biased


@pytest.mark.parametrize("run", [transcribe_in_pairs, predict])
def test_frames_without_bias_have_the_same_log_probs(clips, handed, run):
    model = restore()
    adapter = load_adapter(model, DEMO / "adapter.pt")
    set_anew(model, [name for clip in clips for name in clip["names"]])
    found = []
    model.encoder.register_forward_hook(lambda *args: found.append(adapter.found))
    run(model, clips)
    frames, biased_frames = 0, 0
    for (biased, unbiased), of_batch in zip(handed, found, strict=True):
        biasing = of_batch.biasing
        attended = biasing.entity_probabilities().sum(dim=-1) > LEAST_ATTENTION
        frames, biased_frames = frames + attended.numel(), biased_frames + int(attended.sum())
        if unbiased is None:
            assert not attended.any()
            continue
        assert torch.equal((biasing.bias != 0).any(dim=-1), attended)
        assert torch.equal(biased[~attended], unbiased[~attended])
        assert (biased != unbiased)[attended].any(dim=-1).all()
    assert 0 < biased_frames < frames


def calls_of(module):
    calls = []
    module.register_forward_hook(lambda *args: calls.append(1))
    return calls


@pytest.mark.parametrize("run", [transcribe_in_pairs, predict])
def test_without_bias_nothing_is_handed_over(clips, handed, run):
    model = with_adapter(restore(), effect=False)
    calls = calls_of(model.decoder)
    set_anew(model, NAMES)
    run(model, clips[:2])  # a new adapter changes no frame
    torch.nn.init.normal_(biasing_adapters(model)["names"].contextual.output.weight)
    model.set_enabled_adapters("names", enabled=False)
    run(model, clips[:2])
    model.set_enabled_adapters("names", enabled=True)
    set_anew(model, NAMES, adapter=False)
    run(model, clips[:2])
    set_anew(model)
    run(model, clips[:2])
    assert len(calls) == len(handed) > 0
    assert all(unbiased is None for _, unbiased in handed)
    set_anew(model, NAMES)
    handed.clear()
    run(model, clips[:2])
    assert all(unbiased is not None for _, unbiased in handed)


@pytest.mark.parametrize("run", [transcribe_in_pairs, predict])
@pytest.mark.parametrize("fails", [False, True])
def test_what_no_decoder_takes_is_not_left_for_another_batch(adapted, clips, monkeypatch, run, fails):
    set_anew(adapted, NAMES)
    seen = []

    def call(self, decoder_output, decoder_lengths=None):  # takes nothing
        seen.append(decoded_batch(decoder_output).plain)
        if fails:
            raise MemoryError
        return self.stock(decoder_output=decoder_output, decoder_lengths=decoder_lengths)

    monkeypatch.setattr(BiasedBeamInfer, "__call__", call)
    with pytest.raises(MemoryError) if fails else nullcontext():
        run(adapted, clips[:2])
    assert seen and all(unbiased is not None for unbiased in seen)
    assert decoded_batch(seen[0]) is NOTHING and not biasing_adapters(adapted)["names"].active


def test_a_batch_that_fails_leaves_nothing(adapted, clips, monkeypatch):
    set_anew(adapted, NAMES)
    adapter = biasing_adapters(adapted)["names"]
    monkeypatch.setattr(torch.Tensor, "argmax", lambda *args, **kwargs: pytest.fail(f"active {adapter.active}"))
    with pytest.raises(pytest.fail.Exception, match="active True"):  # NeMo takes the best tokens after its CTC decoder
        transcribe(adapted, clips[:1])
    assert not adapter.active


def test_another_nemo_that_copies_the_encoders_output(adapted, clips):
    set_anew(adapted, NAMES)
    hook = adapted.decoder.register_forward_pre_hook(
        lambda head, args, kwargs: (args, {"encoder_output": kwargs["encoder_output"].clone()}), with_kwargs=True
    )
    with pytest.raises(RuntimeError, match="nemo_bias does not know this NeMo: EncDecCTCModelBPE does not run its CTC"):
        transcribe(adapted, clips[:1])
    hook.remove()
    assert transcribe(adapted, clips[:1])


# Training


def write_manifest(path, items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return str(path)


@pytest.fixture(scope="module")
def manifest(clips, tmp_path_factory):
    """Three of the clips for training; their names are marked."""
    items = [{**clip, "entities": clip["names"]} for clip in clips[2:5]]
    return write_manifest(tmp_path_factory.mktemp("data") / "train.jsonl", items)


def dataset(manifest, **options):
    data = {"manifest_filepath": manifest, "sample_rate": 16000, "batch_size": 2, "shuffle": False, "num_workers": 0}
    return OmegaConf.create(data | options)


def fit(model, manifest, steps=3, lr=1e-3, validation=None, callbacks=()):
    """Trains in the way of NeMo's scripts; returns the trainer."""
    from lightning.pytorch import Trainer, seed_everything

    seed_everything(1)
    trainer = Trainer(
        max_steps=steps,
        callbacks=list(callbacks),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    model.set_trainer(trainer)
    model.setup_training_data(dataset(manifest))
    if validation:
        model.setup_multiple_validation_data(dataset(validation, batch_size=4))
    model.setup_optimization(OmegaConf.create({"name": "adamw", "lr": lr, "weight_decay": 0.0}))
    trainer.fit(model)
    return trainer


def freeze_as_for_adapters(model):
    """As `train_asr_adapter.py` does."""
    model.set_enabled_adapters(enabled=False)
    model.set_enabled_adapters("names", enabled=True)
    model.freeze()
    model.train()
    model.unfreeze_enabled_adapters()


def unfreeze_all(model):
    """As in `speech_to_text_finetune.py`, which knows nothing of adapters."""
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def states(model):
    """Copies of all parameters and buffers: those of the recogniser, and those of the adapter."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    ours = {key for key in state if "adapter_layer" in key}
    return {k: v for k, v in state.items() if k not in ours}, {k: v for k, v in state.items() if k in ours}


@pytest.mark.parametrize("prepare", [freeze_as_for_adapters, unfreeze_all])
def test_training_changes_the_adapter_and_nothing_else(stock, batch, manifest, prepare):
    model = with_adapter(restore(), effect=False)
    prepare(model)
    base, adapter = states(model)
    trainer = fit(model, manifest)
    assert sum(isinstance(callback, AdapterTraining) for callback in trainer.callbacks) == 1
    assert trainer.global_step == 3
    assert trainer.callback_metrics["adapter_loss/encoder/adapter_layer/names"] > 0
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        name for name, _ in model.named_parameters() if "adapter_layer" in name
    }
    base_after, adapter_after = states(model)
    assert any("running_mean" in key for key in base) and any("num_batches_tracked" in key for key in base)
    assert base.keys() == base_after.keys()
    assert [key for key in base if not torch.equal(base[key], base_after[key])] == []
    assert [key for key in adapter if torch.equal(adapter[key], adapter_after[key])] == []
    assert same(outputs(model, batch), outputs(stock, batch))  # the list of the last batch is withdrawn
    assert not same(outputs(model, batch, NAMES), outputs(stock, batch))


def test_training_without_an_adapter_is_left_alone(manifest):
    model = restore().train()
    before, _ = states(model)
    fit(model, manifest, steps=1)
    after, _ = states(model)
    unchanged = [key for key in before if torch.equal(before[key], after[key])]
    assert len(unchanged) < len(before) / 4
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_disabled_adapter_is_not_trained(manifest):
    model = with_adapter(restore())
    model.set_enabled_adapters(enabled=False)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.decoder.decoder_layers[0].bias.requires_grad_(True)
    _, before = states(model)
    fit(model, manifest, steps=1)
    _, after = states(model)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert model.decoder.decoder_layers[0].bias.requires_grad


def test_only_one_adapter_is_trained_at_a_time(manifest):
    model = with_adapter(with_adapter(restore()), name="others")
    with pytest.raises(ValueError, match="more than one biasing adapter is enabled; disable all but the one to be trained"):
        fit(model, manifest, steps=1)
    model.set_enabled_adapters("names", enabled=False)
    before = {name: {k: v.clone() for k, v in a.state_dict().items()} for name, a in biasing_adapters(model).items()}
    fit(model, manifest, steps=1)
    for name, adapter in biasing_adapters(model).items():
        kept = [torch.equal(value, before[name][key]) for key, value in adapter.state_dict().items()]
        assert all(kept) if name == "names" else not all(kept)


def test_a_new_adapter_starts_from_the_output_layer(manifest):
    model = with_adapter(restore(), effect=False)
    fit(model, manifest, steps=1, lr=0.0)
    rows = model.decoder.decoder_layers[0].weight[:256, :, 0]
    embedding = biasing_adapters(model)["names"].contextual.encoder.embedding.weight
    torch.testing.assert_close(embedding, (rows - rows.mean(dim=0)) / rows.std())
    trained = with_adapter(restore())
    before = biasing_adapters(trained)["names"].contextual.encoder.embedding.weight.clone()
    fit(trained, manifest, steps=1, lr=0.0)
    assert torch.equal(biasing_adapters(trained)["names"].contextual.encoder.embedding.weight, before)


def rare_words(items):
    return [{**item, "entities": sorted({word for word in item["text"].split() if len(word) > 5})} for item in items]


def test_entity_recall_in_validation(stock, tmp_path):
    items = [json.loads(line) for line in (DEMO / "clips.jsonl").read_text().splitlines()]
    items = rare_words({**item, "audio_filepath": str(DEMO / item["audio_filepath"])} for item in items)
    unrelated = [{**item, "text": "quite another text", "entities": []} for item in items[:2]]
    train = write_manifest(tmp_path / "train.jsonl", unrelated)
    trainer = fit(
        with_adapter(restore(), effect=False, training={"common_words": 0}),
        train,
        steps=1,
        lr=0.0,
        validation=write_manifest(tmp_path / "validation.jsonl", items),
    )
    spoken = [(word, text) for item, text in zip(items, written(stock, items), strict=True) for word in item["entities"]]
    whole = sum(f" {word} " in f" {text} " for word, text in spoken) / len(spoken)
    within = sum(word in text for word, text in spoken) / len(spoken)
    assert 0 < whole <= within
    assert whole - 1e-6 <= float(trainer.callback_metrics["val_entity_recall"]) <= within + 1e-6


def written(model, items):
    return texts(transcribe(model, items))


def test_a_corpus_of_common_words(clips, tmp_path):
    items = [{**clip, "text": "he was named minister"} for clip in clips[2:4]]
    fit(with_adapter(restore(), training={}), write_manifest(tmp_path / "train.jsonl", items), steps=1)


def test_lists_from_batches(manifest):
    """Of a training set whose manifest cannot be read in advance, such as a tarred one."""
    from lightning.pytorch import Callback

    class Forget(Callback):
        def setup(self, trainer, pl_module, stage):
            pl_module.cfg.train_ds.manifest_filepath = None

    model = with_adapter(restore(), effect=False)
    _, before = states(model)
    fit(model, manifest, callbacks=[Forget()])
    _, after = states(model)
    assert not any(torch.equal(before[key], after[key]) for key in before)


def test_training_of_a_hybrid_model(tmp_path, manifest):
    model = with_adapter(hybrid_model(tmp_path), effect=False)
    unfreeze_all(model)
    base, adapter = states(model)
    fit(model, manifest)
    base_after, adapter_after = states(model)
    assert all(torch.equal(base[key], base_after[key]) for key in base)
    assert [key for key in adapter if torch.equal(adapter[key], adapter_after[key])] == []


PROGRAM = """
'''A program in the shape of NeMo's train_asr_adapter.py; it knows nothing of nemo_bias.'''

import sys

import lightning.pytorch as ptl
import torch
from nemo.collections.asr.models import ASRModel
from omegaconf import OmegaConf

cfg = OmegaConf.load(sys.argv[1])
trainer = ptl.Trainer(**cfg.trainer)
model = ASRModel.restore_from(cfg.model.nemo_model, map_location="cpu", trainer=trainer)
model.setup_training_data(cfg.model.train_ds)
model.setup_multiple_validation_data(cfg.model.validation_ds)
model.setup_optimization(cfg.model.optim)
model.add_adapter("names", cfg=cfg.model.adapter)
model.set_enabled_adapters(enabled=False)
model.set_enabled_adapters("names", enabled=True)
model.freeze()
model = model.train()
model.unfreeze_enabled_adapters()
trainer.fit(model)
assert trainer.world_size == 2 and trainer.global_step == 2
torch.save(model.state_dict(), f"{cfg.output}.{trainer.global_rank}")
if trainer.global_rank == 0:
    model.save_adapters(cfg.output)
"""


def test_a_program_with_two_processes(clips, batch, tmp_path):
    items = [{**clip, "entities": clip["names"]} for clip in clips[2:6]]
    data = dataset(write_manifest(tmp_path / "train.jsonl", items), batch_size=1)
    trainer = {"devices": 2, "accelerator": "cpu", "strategy": "ddp", "max_steps": 2, "num_sanity_val_steps": 0}
    trainer |= dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    config = {
        "trainer": trainer,
        "model": {
            "nemo_model": str(DEMO / "demo.nemo"),
            "train_ds": data,
            "validation_ds": data,
            "optim": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.0},
            "adapter": ADAPTER,
        },
        "output": str(tmp_path / "adapters.pt"),
    }
    OmegaConf.save(OmegaConf.create(config), tmp_path / "config.yaml")
    (tmp_path / "program.py").write_text(PROGRAM)
    env = {key: value for key, value in os.environ.items() if key != "NEMO_BIAS"}
    env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "config.yaml")]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    first, second = (torch.load(tmp_path / f"adapters.pt.{rank}") for rank in (0, 1))
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    stock = restore()
    assert [key for key, value in stock.state_dict().items() if not torch.equal(value, first[key])] == []
    unbiased = outputs(stock, batch)
    load_adapter(stock, tmp_path / "adapters.pt")
    assert not same(outputs(stock, batch, NAMES), unbiased)


def test_a_manifest_that_cannot_be_read_hides_no_other(tmp_path):
    from types import SimpleNamespace

    from nemo_bias.integration.training.adapter_training import _read_manifests

    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "a word", "entities": [{"text": "Word"}, "Word", ""]}) + "\n")
    paths = [str(tmp_path / "a__OP_0..3_CL_.jsonl"), str(tmp_path / "b.jsonl")]
    for given in (paths, ",".join(paths)):
        assert _read_manifests(SimpleNamespace(cfg={"train_ds": {"manifest_filepath": given}})) == (["a word"], ["Word"])
