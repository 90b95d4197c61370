"""Training and measuring an adapter from what the frozen encoder made once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

DEMO = Path(__file__).resolve().parent.parent / "scripts" / "demo"
LISTED = ((3, 4, 5), (20, 21), (7,))
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def items():
    lines = [json.loads(line) for line in (DEMO / "clips.jsonl").read_text().splitlines()]
    return [{**line, "audio_filepath": str(DEMO / line["audio_filepath"])} for line in lines[:3]]


def write(path, items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


@pytest.fixture(scope="module")
def manifest(items, tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "clips.jsonl", items)


@pytest.fixture(scope="module")
def model():
    """The bundled model with an adapter of random weights."""
    from nemo.collections.asr.models import ASRModel

    from nemo_bias import BiasingAdapterConfig

    model = ASRModel.restore_from(str(DEMO / "demo.nemo"), map_location="cpu")
    torch.manual_seed(0)
    model.add_adapter("names", cfg=BiasingAdapterConfig())
    torch.nn.init.normal_(model.encoder.adapter_layer["names"].contextual.output.weight, std=0.1)
    return model.eval()


@pytest.fixture
def adapter(model):
    model.eval()
    adapter = model.encoder.adapter_layer["names"]
    adapter.offer(None)
    return adapter


def heard(item):
    import soundfile

    return torch.from_numpy(soundfile.read(item["audio_filepath"], dtype="float32")[0])


def encode(model, adapter, manifest, folder, copy=0):
    from nemo_bias.integration.training.layer_cache import encode_manifest

    return encode_manifest(model, adapter, manifest, copy, folder)


def test_a_cache_holds_what_the_encoder_makes(model, adapter, items, manifest, tmp_path):
    cache = encode(model, adapter, manifest, tmp_path)
    assert sorted((u.number, u.text) for u in cache.utterances) == [(k, item["text"]) for k, item in enumerate(items)]
    for utterance in cache.utterances:
        audio = heard(items[utterance.number])[None]
        with torch.inference_mode():
            features, lengths = model.preprocessor(input_signal=audio, length=torch.tensor([audio.shape[1]]))
            encoded, lengths = model.encoder(audio_signal=features, length=lengths)
        *layers, output = cache.read(utterance)
        assert len(layers) == len(adapter.tapped) and utterance.frames == len(output) == int(lengths)
        alone = encoded[0, :, : len(output)].T
        torch.testing.assert_close(output, alone, atol=2e-2, rtol=2e-2)  # half precision, and the batch's padding


def test_copies_differ_and_can_be_repeated(model, adapter, manifest, tmp_path):
    torch.manual_seed(0)  # of SpecAugment
    first, second = (encode(model, adapter, manifest, tmp_path, copy) for copy in (1, 2))
    frames = [[u.frames for u in cache.utterances] for cache in (first, second)]
    values = [cache.read(cache.utterances[0])[-1] for cache in (first, second)]
    assert frames[0] != frames[1] or not torch.equal(*values)


def test_what_is_cached_is_not_encoded_again(model, adapter, manifest, items, tmp_path, monkeypatch):
    from nemo_bias.integration.training import layer_cache

    def encode_nothing(*args, **kwargs):
        raise AssertionError("encoded again")

    first = encode(model, adapter, manifest, tmp_path)
    other = write(tmp_path / "other.jsonl", items[:2])
    monkeypatch.setattr(layer_cache, "_encode", encode_nothing)
    with torch.no_grad():
        for parameter in adapter.parameters():  # it is what is trained
            parameter.add_(0.01)
    again = encode(model, adapter, manifest, tmp_path)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.sub_(0.01)
    assert again.utterances == first.utterances
    with pytest.raises(AssertionError, match="encoded again"):
        encode(model, adapter, other, tmp_path)
    with pytest.raises(AssertionError, match="encoded again"):  # the same names may be other audio in another folder
        layer_cache.encode_manifest(model, adapter, manifest, 0, tmp_path, audio_dir=tmp_path)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1  # nothing is left of what failed


def test_two_processes_may_encode_the_same(model, adapter, manifest, tmp_path, monkeypatch):
    from nemo_bias.integration.training import layer_cache

    ours = layer_cache._encode

    def slow(*args, **kwargs):
        monkeypatch.setattr(layer_cache, "_encode", ours)
        encode(model, adapter, manifest, tmp_path)  # the other process is faster
        return ours(*args, **kwargs)

    monkeypatch.setattr(layer_cache, "_encode", slow)
    cache = encode(model, adapter, manifest, tmp_path)
    assert len(cache.utterances) == 3 and cache.read(cache.utterances[0])[0].isfinite().all()
    assert len(list(tmp_path.iterdir())) == 1


def test_audio_that_cannot_be_used_is_named(model, adapter, items, tmp_path):
    import soundfile

    from nemo_bias.evaluation.audio import AudioError

    soundfile.write(tmp_path / "slow.wav", np.zeros(8000, np.float32), 8000)
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    wanted = r"slow\.wav has 8000 Hz; convert it to 16000 Hz"
    for name, message in (("slow", wanted), ("broken", r"broken\.wav is no audio"), ("no", r"no audio file .*no\.wav")):
        wrong = write(tmp_path / f"{name}.jsonl", [{**items[0], "audio_filepath": f"{name}.wav"}])
        with pytest.raises(AudioError, match=message):
            encode(model, adapter, wrong, tmp_path / "cache")


def test_a_cached_model_is_the_model(model, adapter, items, manifest, tmp_path):
    """The same loss as NeMo's own training step has, with the same list."""
    from nemo_bias.adapter.entity_encoder import TokenLists
    from nemo_bias.integration.encoder.biasing_adapter import Offer
    from nemo_bias.integration.encoder.offering import tokenizer_of
    from nemo_bias.integration.training.cached_training import CachedDataset, CachedModel, TrainingRun, collate

    cache = encode(model, adapter, manifest, tmp_path)
    data = CachedDataset([cache], tokenizer_of(model))
    cached = CachedModel(model, adapter, TrainingRun(train=[manifest], output=tmp_path / "out.pt", cache=tmp_path))
    audio = [heard(items[u.number]) for u in cache.utterances]
    adapter.offer(Offer(TokenLists.of(LISTED)))
    with torch.no_grad():
        batch = collate([data[k] for k in range(3)])
        loss = cached._step(batch)
        signal = torch.nn.utils.rnn.pad_sequence(audio, batch_first=True)
        log_probs, lengths, _ = model(input_signal=signal, input_signal_length=torch.tensor([len(a) for a in audio]))
        expected = model.loss(log_probs=log_probs, targets=batch[2], input_lengths=lengths, target_lengths=batch[3])
        adapter.offer(None)
        unbiased, _, _ = model(input_signal=signal, input_signal_length=torch.tensor([len(a) for a in audio]))
    assert float(loss) == pytest.approx(float(expected), rel=1e-2)
    assert not torch.allclose(log_probs, unbiased, atol=1e-2)


def test_batches_hold_so_many_frames(model, adapter, manifest, tmp_path):
    from nemo_bias.integration.encoder.offering import tokenizer_of
    from nemo_bias.integration.training.cached_training import CachedDataset, FrameBatches

    cache = encode(model, adapter, manifest, tmp_path)
    data = CachedDataset([cache] * 4, tokenizer_of(model))
    longest = max(u.frames for u in cache.utterances)
    for shuffle in (False, True):
        batches = list(FrameBatches(data, 3 * longest, shuffle))
        assert sorted(k for batch in batches for k in batch) == list(range(12))
        for batch in batches:
            lengths = [data.items[k][1].frames for k in batch]
            assert len(batch) * max(lengths) <= 3 * longest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"copies": 0}, "copies is 0; it must be at least 1"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; give a number above 0"),
        ({"text": ""}, "m.jsonl: no line has a transcript; give speech with its text"),
    ],
)
def test_what_trains_nothing_is_known_before(changes, message, items, tmp_path):
    from nemo_bias.integration.training.cached_training import TrainingRun

    changes = dict(changes)
    text = {"text": changes.pop("text")} if "text" in changes else {}
    path = write(tmp_path / "m.jsonl", [{**item, **text} for item in items])
    with pytest.raises(ValueError, match=message):
        TrainingRun([path], tmp_path / "a.pt", tmp_path / "cache", **changes).check()


def test_weights_that_are_no_numbers_are_not_saved(model, adapter, tmp_path):
    from nemo_bias.integration.training.cached_training import _SaveAdapter

    parameter = next(adapter.parameters())
    value = parameter.detach().clone()
    with torch.no_grad():
        parameter.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"a\.pt: training diverged, so that nothing is written; lower"):
        _SaveAdapter(model, "names", tmp_path / "a.pt").on_train_end(None, None)
    with torch.no_grad():
        parameter.copy_(value)
    assert not (tmp_path / "a.pt").exists()


def test_transcripts_that_the_model_cannot_write(items, tmp_path, capsys):
    from nemo_bias.integration.training.cached_training import TrainingRun, check_transcripts

    alphabet = frozenset("abcdefghijklmnopqrstuvwxyz'")
    for changed in (0, 1, len(items)):
        lines = [{**item, "text": item["text"].upper() if k < changed else item["text"]} for k, item in enumerate(items)]
        run = TrainingRun([write(tmp_path / "m.jsonl", lines)], tmp_path / "a.pt", tmp_path / "cache")
        if 2 * changed < len(items):
            check_transcripts(run, alphabet)
            told = capsys.readouterr().out
            assert ("m.jsonl:1: 1 of" in told) if changed else not told
            continue
        with pytest.raises(ValueError, match=f"m.jsonl:1: {changed} of {len(items)} transcripts have characters"):
            check_transcripts(run, alphabet)


def test_training_writes_an_adapter_that_a_stock_model_loads(model, manifest, tmp_path, nemo_log):
    from nemo.collections.asr.models import ASRModel

    from nemo_bias import BiasingAdapterConfig, load_adapter
    from nemo_bias.integration.training.cached_training import TrainingRun, train_adapter

    trained = ASRModel.restore_from(str(DEMO / "demo.nemo"), map_location="cpu")
    config = BiasingAdapterConfig()
    config.training.common_words = 10
    config.training.empty_rate = config.training.drop_rate = 0.0
    trained.add_adapter("names", cfg=config)
    base = {key: value.clone() for key, value in trained.state_dict().items() if "adapter_layer" not in key}
    output = tmp_path / "adapter.pt"
    train_adapter(
        trained, "names", TrainingRun([manifest], output, tmp_path / "cache", manifest, copies=2, steps=4, log_dir=tmp_path)
    )
    after = trained.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in base.items())
    loaded = load_adapter(ASRModel.restore_from(str(DEMO / "demo.nemo"), map_location="cpu"), str(output))
    own = trained.encoder.adapter_layer["names"].state_dict()
    assert own.keys() == loaded.state_dict().keys()
    assert all(torch.equal(value, own[key]) for key, value in loaded.state_dict().items())
    assert own["contextual.output.weight"].any()
    assert list(tmp_path.rglob("events.out.tfevents*"))
    (told,) = [message for message in nemo_log if "nemo_bias: " in message]
    assert re.fullmatch(
        r"INFO nemo_bias: entity recall of the validation data: [\d.]+ % before training, [\d.]+ % after 4 steps", told
    )


def test_evaluation_tells_an_adapter_from_none(adapter, manifest, items, model, tmp_path):
    """The rows without the adapter are those of the model, whatever the adapter; those with it are another matter."""
    from nemo_bias.evaluation.adapter_evaluation import EncodedSet

    cache = encode(model, adapter, manifest, tmp_path)
    data = EncodedSet(model, cache, items, range(3))
    plain, biased = data.log_probs(), data.log_probs(adapter, ["angela", "merkel"])
    for k, each in enumerate(plain):
        with torch.inference_mode():
            audio = heard(items[k])[None]
            expected, _, _ = model(input_signal=audio, input_signal_length=torch.tensor([audio.shape[1]]))
        np.testing.assert_allclose(np.exp(each), expected[0, : len(each)].exp().numpy(), atol=0.02)
        assert each.shape == biased[k].shape and not np.allclose(each, biased[k], atol=1e-2)


@pytest.mark.parametrize("no_bias", [True, False])
def test_the_loss_is_moderate_with_and_without_a_no_bias_entry(manifest, model, adapter, tmp_path, no_bias):
    """Without the entry, attention has nowhere to go in frames without an entity, which must not count."""
    from nemo_bias.adapter.entity_encoder import TokenLists
    from nemo_bias.adapter.guide import Mention
    from nemo_bias.adapter.training_lists import TrainingList
    from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter, Offer
    from nemo_bias.integration.encoder.offering import tokenizer_of
    from nemo_bias.integration.training.cached_training import CachedDataset, collate
    from nemo_bias.integration.training.contextual_training import ContextualLoss

    data = CachedDataset([encode(model, adapter, manifest, tmp_path)], tokenizer_of(model))
    layers, lengths, tokens, token_lengths = collate([data[k] for k in range(3)])
    transcripts = [row[:length] for row, length in zip(tokens.tolist(), token_lengths.tolist(), strict=True)]
    drawn = TrainingList((tuple(transcripts[0][:4]), (7, 8)), np.ones((3, 2), np.bool_), ((Mention(0, 0, 4),), (), ()))
    torch.manual_seed(0)
    new = BiasingAdapter(contextual={"no_bias": no_bias}, recogniser=adapter.recogniser)
    new.offer(Offer(TokenLists.of(drawn.entities)))
    found = new.train()(layers[:-1], lengths)
    own_loss = ContextualLoss(new.training_config, no_bias, model, transcripts, drawn)
    loss = own_loss(layers[-1].transpose(1, 2), lengths, found.biasing)
    assert 0 < float(loss) < 20
    loss.backward()
    assert all(p.grad.isfinite().all() for p in new.parameters() if p.grad is not None)
