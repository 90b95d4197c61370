"""The decoding strategy inside NeMo, on the bundled checkpoint and on tiny models with random weights."""

from __future__ import annotations

import bisect
import json
import shutil
import sys
import tarfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import set_anew
from omegaconf import OmegaConf

from nemo_bias import EntityListError, load_adapter, remove_entities, set_entities, use_entities
from nemo_bias.integration.decoding import model_methods, strategy
from nemo_bias.integration.decoding.config import BiasedBeamConfig, biased_beam_config
from nemo_bias.integration.decoding.model_lists import lists_of
from nemo_bias.integration.registration import hook

DEMO = Path(__file__).resolve().parent.parent / "scripts" / "demo"
LIST = str(DEMO / "entities.txt")
CHARACTERS = [" ", *"abcdefghijklmnopqrstuvwxyz'"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    from nemo.collections.asr.models import ASRModel

    return ASRModel.restore_from(str(DEMO / "demo.nemo"), map_location="cpu").eval()


@pytest.fixture(scope="module")
def clips():
    """The bundled clips, with absolute paths."""
    items = [json.loads(line) for line in (DEMO / "clips.jsonl").read_text().splitlines()]
    return [{**item, "audio_filepath": str(DEMO / item["audio_filepath"])} for item in items]


@pytest.fixture(scope="module")
def unspoken(clips):
    """The entities of the bundled list that are in none of the clips."""
    said = {name for clip in clips for name in clip["names"]}
    return [name for name in Path(LIST).read_text().splitlines() if name not in said]


@pytest.fixture(scope="module")
def adapted():
    """The bundled checkpoint with the bundled adapter."""
    from nemo.collections.asr.models import ASRModel

    model = ASRModel.restore_from(str(DEMO / "demo.nemo"), map_location="cpu").eval()
    load_adapter(model, DEMO / "adapter.pt")
    return model


def decoding_config(model, strategy_name, **options):
    """The model's decoding config with another strategy; a dotted option's dots are written as __."""
    config = OmegaConf.create(OmegaConf.to_container(model.cfg.decoding, resolve=True))
    OmegaConf.set_struct(config, False)
    config.strategy = strategy_name
    config.pop("biased_beam", None)
    for name, value in options.items():
        OmegaConf.update(config, name.replace("__", "."), value, force_add=True)
    return config


def use(model, strategy_name, **options):
    model.change_decoding_strategy(decoding_config(model, strategy_name, **options), verbose=False)


def transcribe(model, items, batch_size=4, **options):
    model.eval()
    audio = [item["audio_filepath"] for item in items]
    return model.transcribe(audio, batch_size=batch_size, return_hypotheses=True, verbose=False, **options)


def transcribe_manifest(model, items, path, batch_size=4):
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    model.eval()
    return model.transcribe(str(path), batch_size=batch_size, return_hypotheses=True, verbose=False)


@pytest.fixture(scope="module")
def greedy(model, clips):
    use(model, "greedy_batch")
    return transcribe(model, clips)


@pytest.fixture(scope="module")
def biased(model, clips):
    """All clips with the bundled list, which is trusted a little too much."""
    set_anew(model, LIST, weight=1.5, nbest=3)
    return transcribe(model, clips)


def texts(hypotheses):
    return [h.text for h in hypotheses]


def assert_same(ours, theirs):
    """Two runs gave the very same hypotheses."""
    assert_same_text(ours, theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.y_sequence, b.y_sequence)


def assert_same_text(ours, theirs):
    """Two runs gave the same hypotheses, whatever log-probs [T, V] NeMo puts there: those of an adapter are biased."""
    for a, b in zip(ours, theirs, strict=True):
        assert a.text == b.text
        assert float(a.score) == float(b.score)
        assert a.timestamp == b.timestamp
        assert a.word_confidence == b.word_confidence


def frames_of(hypothesis):
    return len(hypothesis.y_sequence)  # NeMo puts the log-probs [T, V] there


# Without entities


@pytest.mark.parametrize("timestamps", [None, True])
@pytest.mark.parametrize("how", ["no list", "off", "nothing found"])
def test_without_entities_nothing_changes(model, clips, unspoken, monkeypatch, how, timestamps):
    some = clips[:4]
    confidence = {"confidence_cfg__preserve_word_confidence": True}
    use(model, "greedy_batch", **confidence)
    theirs = transcribe(model, some, timestamps=timestamps)
    if how == "no list":
        use(model, "biased_beam", **confidence)
    elif how == "nothing found":
        use(model, "biased_beam", biased_beam__entities=unspoken, **confidence)
    else:
        monkeypatch.setenv("NEMO_BIAS", "off")
        use(model, "biased_beam", biased_beam__entity_file=LIST, **confidence)
    ours = transcribe(model, some, timestamps=timestamps)
    use(model, "greedy_batch", confidence_cfg__preserve_word_confidence=False)
    assert_same(ours, theirs)
    assert [getattr(h, "entity_spans", None) for h in ours] == [() if how == "nothing found" else None] * len(some)


@pytest.mark.parametrize("adapter", [False, True])
def test_an_idle_list_changes_nothing_but_where_it_writes_an_entity(request, model, clips, unspoken, adapter):
    model = request.getfixturevalue("adapted") if adapter else model
    use(model, "greedy_batch")
    theirs = transcribe(model, clips, timestamps=True)
    set_anew(model, unspoken)
    ours = transcribe(model, clips, timestamps=True)
    quiet = [k for k, hypothesis in enumerate(ours) if not hypothesis.entity_spans]
    assert len(quiet) >= len(clips) - 3
    assert_same_text([ours[k] for k in quiet], [theirs[k] for k in quiet])
    biased = [k for k in quiet if not torch.equal(ours[k].y_sequence, theirs[k].y_sequence)]
    assert bool(biased) == adapter


def test_labels_from_nemo_are_decoded_as_greedy_does(model, clips, greedy):
    """The callable gets labels [B, T] where NeMo has taken the best of each frame already."""
    set_anew(model, LIST)
    labels = [h.y_sequence.argmax(-1) for h in greedy[:2]]
    decoded = [model.decoding.ctc_decoder_predictions_tensor(row[None], torch.tensor([len(row)]))[0].text for row in labels]
    assert decoded == texts(greedy[:2])


# With the bundled list


def test_entities_are_found(greedy, biased):
    assert texts(biased) != texts(greedy)
    assert any(h.entity_spans for h in biased)
    listed = set(Path(LIST).read_text().splitlines())
    for hypothesis in biased:
        padded, end = f" {hypothesis.text} ", -1
        for span in hypothesis.entity_spans:
            assert span.entity in listed
            assert f" {span.phrase} " in padded
            assert end < span.start <= span.end < frames_of(hypothesis)
            end = span.end


@pytest.mark.parametrize("adapter", [False, True])
def test_what_entities_do_not_replace_is_nemos(request, model, clips, greedy, biased, adapter):
    """To the label: words that share no frame with an entity, and the blanks around them."""
    if adapter:
        adapted = request.getfixturevalue("adapted")
        set_anew(adapted, LIST, min_probability=0.2)
        biased = transcribe(adapted, clips)
    blank, starts_word = model.decoding.blank_id, strategy.vocabulary_of(model.decoding).starts_word
    changed = 0
    for ours, theirs in zip(biased, greedy, strict=True):
        labels, path = theirs.y_sequence.argmax(dim=-1).numpy(), ours.nbest[0].path
        may_change = np.zeros(len(labels), bool)
        for span in ours.entity_spans:
            may_change[span.start : span.end + 1] = True
        new = np.append(True, labels[1:] != labels[:-1])  # a token may last for several frames
        first = np.flatnonzero(new & (labels != blank) & starts_word[np.minimum(labels, len(starts_word) - 1)])
        spoken = np.flatnonzero(labels != blank)
        for frames in np.split(spoken, np.searchsorted(spoken, first)):
            if len(frames) and may_change[frames].any():
                may_change[frames] = True
        assert np.array_equal(path[~may_change], labels[~may_change])
        changed += not np.array_equal(path, labels)
    assert changed >= 5


def test_a_higher_probability_is_found_less(model, greedy):
    found = []
    for least in (0.01, 0.5, 0.99, 0.9999999):
        set_anew(model, LIST, min_probability=least)
        hypotheses = decode(model, greedy)
        assert all(span.probability >= span.asked_for - 1e-6 for h in hypotheses for span in h.entity_spans)
        found.append(sum(len(h.entity_spans) for h in hypotheses))
    assert found[0] > found[1] > found[2] >= found[3]
    assert texts(decode(model, greedy)) == texts(greedy) or found[3] > 0


def decode(model, hypotheses):
    """Decodes the log-probs of hypotheses anew."""
    log_probs = [h.y_sequence for h in hypotheses]
    lengths = torch.tensor([len(each) for each in log_probs])
    padded = torch.nn.utils.rnn.pad_sequence(log_probs, batch_first=True)
    return model.decoding.ctc_decoder_predictions_tensor(padded, lengths, return_hypotheses=True)


def test_nbest_and_score(model, biased):
    for hypothesis in biased:
        best, *others = hypothesis.nbest
        assert len(others) <= 2
        assert (best.text, best.spans, best.score) == (hypothesis.text, hypothesis.entity_spans, 0.0)
        assert len({transcript.text for transcript in hypothesis.nbest}) == len(hypothesis.nbest)
        scores = [transcript.score for transcript in hypothesis.nbest]
        assert scores == sorted(scores, reverse=True)
        spoken = np.flatnonzero(best.path != model.decoding.blank_id)
        of_path = hypothesis.y_sequence[spoken, best.path[spoken]].sum()
        assert float(hypothesis.score) == pytest.approx(float(of_path))  # as NeMo counts it
    assert any(len(h.nbest) == 3 for h in biased)


def test_adaptive_method(model, clips, greedy):
    set_anew(model, LIST, method="adaptive", weight=2.0)
    hypotheses = transcribe(model, clips[:8])
    assert texts(hypotheses) != texts(greedy[:8])


def test_language_model(model, clips, greedy):
    """It changes the words without a list; with one, they change where entities are written, and nowhere else."""
    pytest.importorskip("kenlm")
    words = str(DEMO / "words.lm")
    use(model, "biased_beam", biased_beam__lm_file=words)
    without = transcribe(model, clips)
    assert texts(without) != texts(greedy)
    set_anew(model, LIST, lm_file=words)
    found = 0
    for before, after in zip(without, transcribe(model, clips, timestamps=True), strict=True):
        found += len(after.entity_spans)
        same = before.nbest[0].path == after.nbest[0].path
        near = [any(span.start - 25 <= t <= span.end + 25 for span in after.entity_spans) for t in range(len(same))]
        assert all(same[t] or near[t] for t in range(len(same)))
        assert " ".join(word["word"] for word in after.timestamp["word"]) == after.text
    assert found > 10


def test_words_have_times_and_confidences(model, clips):
    use(
        model,
        "biased_beam",
        biased_beam__entity_file=LIST,
        biased_beam__weight=1.5,
        preserve_alignments=True,
        confidence_cfg__preserve_frame_confidence=True,
        confidence_cfg__preserve_token_confidence=True,
        confidence_cfg__preserve_word_confidence=True,
    )
    hypotheses = transcribe(model, clips, timestamps=True)
    found = 0
    for hypothesis in hypotheses:
        words = hypothesis.timestamp["word"]
        assert " ".join(word["word"] for word in words) == hypothesis.text
        assert len(hypothesis.word_confidence) == len(hypothesis.text.split())
        assert all(0 <= float(confidence) <= 1 for confidence in hypothesis.word_confidence)
        log_probs, path = hypothesis.alignments
        assert log_probs.shape == hypothesis.y_sequence.shape
        assert len(path) == len(log_probs)
        starts = [int(word["start_offset"]) for word in words]  # NeMo's words start where the last token before them ends
        for span in hypothesis.entity_spans:
            first = max(0, bisect.bisect_left(starts, span.start) - 1)
            last = first + len(span.phrase.split()) - 1
            assert " ".join(word["word"] for word in words[first : last + 1]) == span.phrase
            assert abs(span.end - int(words[last]["end_offset"])) <= 1
            found += 1
    assert found
    use(model, "greedy_batch", preserve_alignments=False, confidence_cfg__preserve_word_confidence=False)


def test_our_hypotheses_are_made_like_those_of_nemo(model, clips, greedy):
    """NeMo's greedy decoder makes the same of log-probs whose best path is ours."""
    use(model, "biased_beam", biased_beam__entity_file=LIST, preserve_alignments=True)
    decoder = model.decoding.decoding
    decoder.compute_timestamps = True
    changed = 0
    for hypothesis in greedy[:8]:
        log_probs, lengths = hypothesis.y_sequence[None], torch.tensor([len(hypothesis.y_sequence)])
        ((ours,),) = decoder(decoder_output=log_probs, decoder_lengths=lengths)
        others = torch.ones_like(log_probs).scatter_(2, ours.y_sequence[None, :, None], 0.0)
        ((theirs,),) = decoder.stock(decoder_output=log_probs - 1000 * others, decoder_lengths=lengths)
        ((before,),) = decoder.stock(decoder_output=log_probs, decoder_lengths=lengths)
        assert torch.equal(ours.y_sequence, theirs.y_sequence) and ours.y_sequence.dtype == theirs.y_sequence.dtype
        assert ours.timestamp == theirs.timestamp and type(ours.timestamp) is type(theirs.timestamp)
        assert float(ours.score) == pytest.approx(float(theirs.score)) and type(ours.score) is type(theirs.score)
        assert torch.equal(ours.alignments[1], theirs.alignments[1])
        assert torch.equal(ours.alignments[0], before.alignments[0])
        changed += not torch.equal(ours.y_sequence, before.y_sequence)
    assert changed
    use(model, "greedy_batch", preserve_alignments=False)


# Entities of single utterances


def names_heard(clips, biased):
    """Clips in which entities of the bundled list are found, each with those entities."""
    heard = [
        (clip, [span.entity for span in h.entity_spans]) for clip, h in zip(clips, biased, strict=True) if h.entity_spans
    ]
    assert len(heard) >= 2
    return heard


def decode_alone(model, hypothesis, entities):
    """The same log-probs, decoded with a global list."""
    set_anew(model, entities, weight=1.5, entity_field=None)
    log_probs = hypothesis.y_sequence
    (alone,) = model.decoding.ctc_decoder_predictions_tensor(
        log_probs[None], torch.tensor([len(log_probs)]), return_hypotheses=True
    )
    return alone


@pytest.mark.parametrize("global_list", [[], ["castings", "bettelheim"]])
def test_lists_of_utterances(model, clips, biased, greedy, tmp_path, global_list):
    heard = names_heard(clips, biased)
    (first, first_names), (second, second_names) = heard[:2]
    items = [
        {**first, "entities": first_names},
        {k: v for k, v in second.items() if k != "entities"},
        {**second, "entities": [{"text": name, "weight": 1.2} for name in second_names]},
        {**first, "entities": second_names[0]},
        {**first, "entities": []},
        {**second, "entities": ["zyxwvut"]},
    ]
    lists = [first_names, [], [{"text": n, "weight": 1.2} for n in second_names], [second_names[0]], [], ["zyxwvut"]]
    set_anew(model, global_list, weight=1.5)
    hypotheses = transcribe_manifest(model, items, tmp_path / "mixed.jsonl", batch_size=4)
    single = transcribe_manifest(model, items, tmp_path / "mixed.jsonl", batch_size=1)
    assert hypotheses[0].entity_spans or hypotheses[2].entity_spans
    for hypothesis, own in zip(hypotheses, lists, strict=True):
        joined = [*global_list, *own]
        if joined:
            alone = decode_alone(model, hypothesis, joined)
            assert hypothesis.text == alone.text
            assert hypothesis.entity_spans == alone.entity_spans
            assert float(hypothesis.score) == pytest.approx(float(alone.score))
        else:
            assert not hasattr(hypothesis, "entity_spans")
    for item, own, hypothesis in zip(items, lists, single, strict=True):
        joined = [*global_list, *own]
        if joined:
            set_anew(model, joined, weight=1.5)
        else:
            use(model, "greedy_batch")
        (alone,) = transcribe(model, [item], batch_size=1)
        assert hypothesis.text == alone.text
        assert getattr(hypothesis, "entity_spans", None) == getattr(alone, "entity_spans", None)


@pytest.mark.parametrize("use_lhotse", [True, False])
def test_lists_of_utterances_in_predict_step(model, clips, biased, tmp_path, use_lhotse):
    """As in transcribe_speech_parallel.py, which NeMo's older datasets serve unless told otherwise: they drop the field."""
    from nemo.utils import logging as nemo_logging

    (first, names), (second, _) = names_heard(clips, biased)[:2]
    items = [{**first, "entities": names}, second]
    path = tmp_path / "m.jsonl"
    set_anew(model, weight=1.5)
    expected = texts(transcribe_manifest(model, items, path, batch_size=1))
    without = texts(transcribe(model, items, batch_size=1))
    config = {"manifest_filepath": str(path), "batch_size": 1, "sample_rate": 16000, "num_workers": 0, "shuffle": False}
    if use_lhotse:
        config |= {"use_lhotse": True, "force_finite": True, "force_map_dataset": True, "do_transcribe": True}
    else:
        config |= {"return_sample_id": True}
    warnings = []
    nemo_logging._logger.addFilter(recorder := lambda record: warnings.append(record.getMessage()) or True)
    loader = model._setup_dataloader_from_config(OmegaConf.create(config))
    nemo_logging._logger.removeFilter(recorder)
    model.eval()
    model.preprocessor.featurizer.dither, dither = 0.0, model.preprocessor.featurizer.dither
    model.preprocessor.featurizer.pad_to, pad_to = 0, model.preprocessor.featurizer.pad_to
    with torch.no_grad():
        predicted = [text.text for batch in loader for _, text in model.predict_step(batch, 0)]
    model.preprocessor.featurizer.dither, model.preprocessor.featurizer.pad_to = dither, pad_to
    assert predicted == (expected if use_lhotse else without)
    assert any("this dataset cannot carry it" in warning for warning in warnings) != use_lhotse


def test_entity_field_can_be_renamed_or_ignored(model, clips, biased, tmp_path):
    clip, names = names_heard(clips, biased)[0]
    item = {**clip, "entities": ["zyxwvut"], "names_here": names}
    set_anew(model, entity_field="names_here", weight=1.5)
    (hypothesis,) = transcribe_manifest(model, [item], tmp_path / "m.jsonl", batch_size=1)
    assert [span.entity for span in hypothesis.entity_spans] == [s for s in names if s in hypothesis.text]
    set_anew(model, entity_field=None, weight=1.5)
    (ignored,) = transcribe_manifest(model, [item], tmp_path / "m.jsonl", batch_size=1)
    use(model, "greedy_batch")
    (plain,) = transcribe_manifest(model, [item], tmp_path / "m.jsonl", batch_size=1)
    assert ignored.text == plain.text and not hasattr(ignored, "entity_spans")


def test_it_is_told_what_has_no_effect_with_the_lists_of_a_manifest(model, clips, tmp_path, nemo_log):
    """Whatever list there is; and once."""

    def told(items, **options) -> list[str]:
        nemo_log.clear()
        set_anew(model, None, **options)
        for _ in range(2):
            transcribe_manifest(model, items, tmp_path / "m.jsonl", batch_size=1)
        return [message.partition("nemo_bias: ")[2] for message in nemo_log if message.startswith("WARNING nemo_bias")]

    plain, listed = {**clips[0]}, {**clips[0], "entities": ["tesla"]}
    assert told([plain, listed], min_probability=0.3) == []
    (message,) = told([plain], min_probability=0.3)
    assert message.startswith("biased_beam.min_probability has no effect because there is no entity list; give entity_file")
    (message,) = told([listed], entity_field="terms")
    assert message.startswith(
        f"biased_beam.entity_field has no effect because no line of {tmp_path / 'm.jsonl'} has that field"
    )
    (message,) = told([plain, listed], method="greedy")
    assert message.startswith("every list of a single utterance has no effect because method is greedy")
    nemo_log.clear()
    set_anew(model, None, min_probability=0.2)
    for names in (None, ["tesla"], None):  # as a server does
        with use_entities(model, names):
            transcribe_manifest(model, [plain], tmp_path / "m.jsonl", batch_size=1)
    assert len([message for message in nemo_log if "has no effect" in message]) <= 1


@pytest.mark.parametrize("value", [7, {"text": "tesla"}])
def test_wrong_entity_field(model, clips, tmp_path, value):
    set_anew(model)
    with pytest.raises(ValueError, match=r"m\.jsonl:1: entities of cv-.*\.opus is .*; expected a list"):
        transcribe_manifest(model, [{**clips[0], "entities": value}], tmp_path / "m.jsonl")


def test_wrong_entity_in_the_field(model, clips, tmp_path):
    set_anew(model)
    with pytest.raises(EntityListError, match=r"m\.jsonl:1: entities of cv-.*\.opus:2: .*weight"):
        transcribe_manifest(model, [{**clips[0], "entities": ["tesla", {"text": "a", "wieght": 1}]}], tmp_path / "m.jsonl")


# Checkpoints


def test_saved_model_keeps_the_strategy(model, clips, tmp_path):
    from nemo.collections.asr.models import ASRModel

    names = tmp_path / "names.txt"
    shutil.copy(LIST, names)
    set_anew(model, str(names), weight=1.5)
    expected = texts(transcribe(model, clips[:4]))
    model.save_to(str(tmp_path / "biased.nemo"))
    content = names.read_text()
    names.unlink()
    restored = ASRModel.restore_from(str(tmp_path / "biased.nemo"), map_location="cpu").eval()
    assert restored.cfg.decoding.strategy == "biased_beam"
    with pytest.raises(EntityListError, match=r"names\.txt"):
        transcribe(restored, clips[:1])
    names.write_text(content)
    assert texts(transcribe(restored, clips[:4])) == expected


# Other models


def small_modules(classes, labels):
    """Preprocessor, encoder and CTC decoder of a model that trains in no time, or never."""
    asr = "nemo.collections.asr.modules"
    return {
        "sample_rate": 16000,
        "preprocessor": {
            "_target_": f"{asr}.AudioToMelSpectrogramPreprocessor",
            **{"features": 32, "window_size": 0.025, "window_stride": 0.01, "dither": 0.0, "sample_rate": 16000},
        },
        "encoder": {
            "_target_": f"{asr}.ConformerEncoder",
            **{"feat_in": 32, "n_layers": 1, "d_model": 16, "n_heads": 2, "subsampling_factor": 4},
            **{"subsampling_conv_channels": 8, "conv_kernel_size": 5},
        },
        "decoder": {"_target_": f"{asr}.ConvASRDecoder", "feat_in": 16, "num_classes": classes, "vocabulary": labels},
        "validation_ds": {"sample_rate": 16000, "shuffle": False, "manifest_filepath": None},
    }


def test_character_model(clips):
    from nemo.collections.asr.models import EncDecCTCModel

    torch.manual_seed(1)
    config = small_modules(len(CHARACTERS), CHARACTERS) | {"labels": CHARACTERS, "optim": {"name": "adamw"}}
    model = EncDecCTCModel(OmegaConf.create(config)).eval()
    set_anew(model, ["new york", "ab"], weight=3)
    assert lists_of(model).current.vocabulary.delimited
    for hypothesis in transcribe(model, clips[:3], timestamps=True):
        assert hypothesis.text
        assert [w["word"] for w in hypothesis.timestamp["word"]] == hypothesis.text.split()
        for span in hypothesis.entity_spans:
            assert f" {span.phrase} " in f" {hypothesis.text} "


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory):
    from nemo.collections.asr.models import EncDecHybridRNNTCTCBPEModel

    folder = tmp_path_factory.mktemp("tokenizer")
    with tarfile.open(DEMO / "demo.nemo") as archive:
        for member in archive.getmembers():
            for name in ("tokenizer.model", "vocab.txt", "tokenizer.vocab"):
                if member.name.endswith(name):
                    (folder / name).write_bytes(archive.extractfile(member).read())
    torch.manual_seed(1)
    config = small_modules(-1, [])
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


def test_a_hybrid_decodes_as_before_without_its_list(hybrid):
    before = hybrid.cur_decoder
    set_entities(hybrid, ["tesla"])
    assert hybrid.cur_decoder == "ctc"
    remove_entities(hybrid)
    assert hybrid.cur_decoder == before == "rnnt"


def test_hybrid_model(hybrid, clips, tmp_path):
    set_anew(hybrid, ["tesla", "new york"], weight=3)
    assert hybrid.cur_decoder == "ctc"
    plain = transcribe(hybrid, clips[:2])
    assert len(plain) == 2 and all(hasattr(h, "entity_spans") for h in plain)
    set_anew(hybrid)
    items = [clips[0], {**clips[1], "entities": ["tesla"]}]
    mixed = transcribe_manifest(hybrid, items, tmp_path / "m.jsonl")
    assert [hasattr(h, "entity_spans") for h in mixed] == [False, True]


def test_a_model_without_ctc():
    with pytest.raises(TypeError, match="SimpleNamespace has no CTC decoder"):
        set_anew(SimpleNamespace(decoding=SimpleNamespace()), ["tesla"])


def test_vocabularies():
    def tokenized(tokens, kind):
        tokenizer = SimpleNamespace(ids_to_tokens=lambda ids: [tokens[i] for i in ids])
        return SimpleNamespace(tokenizer=tokenizer, tokenizer_type=kind, blank_id=len(tokens))

    bpe = strategy.vocabulary_of(tokenized(["<unk>", "▁new", "york", "▁", "⁇"], "bpe"))
    assert bpe.pieces == ("", "▁new", "york", "▁", "") and bpe.blank == 5 and not bpe.delimited
    wpe = strategy.vocabulary_of(tokenized(["[PAD]", "new", "##york"], "wpe"))
    assert wpe.pieces == ("", "▁new", "york")
    assert wpe.text([1, 2, 1]) == "newyork new"
    characters = strategy.vocabulary_of(SimpleNamespace(vocabulary=[" ", "a", "b"], blank_id=3))
    assert characters.pieces == ("▁", "a", "b") and characters.delimited


# Errors


def test_config_errors(model, tmp_path):
    with pytest.raises(ValueError, match=r"biased_beam\.wieght: unknown option, did you mean .weight.\?"):
        set_anew(model, ["tesla"], wieght=2)
    with pytest.raises(ValueError, match=r"biased_beam\.wieght"):
        use(model, "biased_beam", biased_beam__wieght=2)
    with pytest.raises(ValueError, match=r"biased_beam\.beam_size: 'big' does not fit"):
        set_anew(model, ["tesla"], beam_size="big")
    with pytest.raises(ValueError, match="beam_size is 0"):
        set_anew(model, ["tesla"], beam_size=0)
    with pytest.raises(ValueError, match="method is 'magic'; choose one of arcs, adaptive"):
        set_anew(model, ["tesla"], method="magic")


def test_list_errors(model, tmp_path):
    broken = tmp_path / "names.jsonl"
    broken.write_text('"tesla"\n{"text": "edison", "wieght": 2}\n')
    with pytest.raises(EntityListError, match=r"names\.jsonl:2: .*weight"):
        set_anew(model, str(broken))
    (tmp_path / "names.tsv").write_text("text\tpronunciations\ntesla\tT EH S L AH\nedison\tSH IX\n")
    with pytest.raises(EntityListError, match=r'names\.tsv:3: pronunciation "SH IX": "IX" is not an ARPAbet phone'):
        set_anew(model, str(tmp_path / "names.tsv"))
    with pytest.raises(EntityListError, match=r'^entities:2: pronunciation "SH IX": "IX" is not'):
        set_anew(model, ["tesla", {"text": "edison", "pronunciations": ["SH IX"]}])
    with pytest.raises(EntityListError, match=r"missing\.txt: cannot be read"):
        set_anew(model, str(tmp_path / "missing.txt"))
    with pytest.raises(EntityListError, match=r"entities:1: "):
        set_anew(model, [{"weight": 1}])


def test_config_from_all_kinds_of_nodes():
    assert biased_beam_config(None) == BiasedBeamConfig()
    assert biased_beam_config({"weight": 2}).weight == 2.0
    assert biased_beam_config(OmegaConf.create({"entities": ["a", {"text": "b"}]})).entities == ["a", {"text": "b"}]


# Registration


def test_registration_happens_once():
    from nemo.collections.asr.models import ctc_models
    from nemo.collections.asr.parts.submodules import ctc_decoding

    before = ctc_decoding.AbstractCTCDecoding.__init__, ctc_models.EncDecCTCModel._transcribe_forward
    strategy.apply(ctc_decoding)
    model_methods.apply(ctc_models)
    hook.install()
    hook.install()
    assert before == (ctc_decoding.AbstractCTCDecoding.__init__, ctc_models.EncDecCTCModel._transcribe_forward)
    assert sum(type(finder).__name__ == "_Finder" for finder in sys.meta_path) == 1


def test_another_nemo_is_refused():
    class AbstractCTCDecoding:
        def __init__(self, decoding_cfg, blank_id, something_new):
            pass

    module = ModuleType("nemo.collections.asr.parts.submodules.ctc_decoding")
    module.AbstractCTCDecoding = AbstractCTCDecoding
    with pytest.raises(RuntimeError, match=r"does not know this NeMo: .*install nemo_toolkit 3\.0"):
        strategy.apply(module)

    module = ModuleType("nemo.collections.asr.parts.mixins.transcription")
    module.TranscriptionMixin = type("TranscriptionMixin", (), {})
    with pytest.raises(RuntimeError, match=r"TranscriptionMixin\.transcribe_generator is gone"):
        model_methods.apply(module)
