"""A model's lists: swapped as a whole, compiled once for many models, and never mixed up between threads and models."""

from __future__ import annotations

import gc
import json
import threading
import time

import pytest
import torch
from conftest import DEMO, restored_demo, set_anew
from omegaconf import OmegaConf

import nemo_bias
from nemo_bias import (
    EntityListError,
    compile_entities,
    load_adapter,
    remove_adapter,
    remove_entities,
    set_entities,
    use_entities,
)
from nemo_bias.integration.decoding.model_lists import lists_of
from nemo_bias.integration.encoder.biasing_adapter import biasing_adapters

LIST = DEMO / "entities.txt"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    return restored_demo()


@pytest.fixture(scope="module")
def adapted():
    model = restored_demo()
    load_adapter(model, DEMO / "adapter.pt")
    return model


@pytest.fixture(scope="module")
def clips():
    items = [json.loads(line) for line in (DEMO / "clips.jsonl").read_text().splitlines()]
    return [{**item, "audio_filepath": str(DEMO / item["audio_filepath"])} for item in items][:8]


@pytest.fixture(scope="module")
def said(model, clips):
    """The entities that are found in each clip, with the whole list."""
    set_anew(model, LIST)
    return [[span.entity for span in h.entity_spans] for h in transcribe(model, clips)]


def transcribe(model, clips, **options):
    model.eval()
    return model.transcribe(
        [clip["audio_filepath"] for clip in clips], batch_size=2, return_hypotheses=True, verbose=False, **options
    )


def spans(hypotheses):
    return [[span.entity for span in getattr(h, "entity_spans", ())] for h in hypotheses]


def audio_of(clip):
    from nemo.collections.asr.parts.preprocessing.segment import AudioSegment

    signal = torch.from_numpy(AudioSegment.from_file(clip["audio_filepath"], target_sr=16000).samples)[None]
    return {"input_signal": signal, "input_signal_length": torch.tensor([signal.shape[1]])}


def decode(model, clip):
    """As a program does that calls the model itself: encoding, then decoding."""
    with torch.no_grad():
        log_probs, lengths, _ = model(**audio_of(clip))
    (hypothesis,) = model.decoding.ctc_decoder_predictions_tensor(log_probs, lengths, return_hypotheses=True)
    return hypothesis


# Swapped as a whole


@pytest.mark.parametrize(
    ("entities", "options"),
    [
        ([{"text": "tesla", "wieght": 2}], {}),
        (["tesla", {"text": "edison", "pronunciations": ["SH IX"]}], {}),
        ("no such file", {}),
        (["tesla"], {"min_probability": 2}),
        (["tesla"], {"wieght": 2}),
        (["tesla"], {"adapter_file": "no.pt"}),
        (["tesla"], {"word_frequencies": "no such file"}),
        (["tesla"], {"pronunciations": "no such file"}),
        (["tesla"], {"entity_file": "names.txt"}),
    ],
)
def test_after_an_error_the_old_list_works(model, clips, said, entities, options):
    set_anew(model, LIST)
    config = model.cfg.decoding.copy()
    with pytest.raises(ValueError):
        set_entities(model, entities, **options)
    assert model.cfg.decoding == config
    assert spans(transcribe(model, clips[:2])) == said[:2]
    config.biased_beam.entity_file = "no such file"
    with pytest.raises(EntityListError, match="no such file: cannot be read"):
        model.change_decoding_strategy(config, verbose=False)
    assert spans(transcribe(model, clips[:2])) == said[:2]


def test_options_stay(model):
    set_anew(model, ["tesla"], min_probability=0.3, nbest=2)
    set_entities(model, ["edison"])
    config = lists_of(model).current.config
    assert (config.min_probability, config.nbest) == (0.3, 2)
    set_entities(model, nbest=3)
    current = lists_of(model).current
    assert (current.config.min_probability, current.config.nbest) == (0.3, 3)
    assert current.shared.phrases == ("edison",)
    set_entities(model, LIST)
    assert len(lists_of(model).current.shared) > 300
    for nothing in ([], None, {}, ()):
        set_entities(model, ["tesla"])
        set_entities(model, nothing)
        assert lists_of(model).current.shared is None
    with pytest.raises(TypeError, match="give entities, None to remove"):
        set_entities(model)


def test_a_list_outlives_the_decoders_that_nemo_makes(model, clips, said, nemo_log):
    set_anew(model, LIST.read_text().split("\n")[:-1])
    before = model.decoding
    assert spans(transcribe(model, clips[:2], timestamps=True)) == said[:2]
    assert model.decoding is not before
    config = model.cfg.decoding.copy()
    greedy = config.copy()
    greedy.strategy = "greedy_batch"
    model.change_decoding_strategy(greedy, verbose=False)
    assert spans(transcribe(model, clips[:2])) == [[], []]
    told = [message for message in nemo_log if "has no effect" in message]
    assert told == [
        "WARNING nemo_bias: the entity list has no effect because strategy is greedy_batch; set strategy=biased_beam"
    ]
    model.change_decoding_strategy(config, verbose=False)
    assert spans(transcribe(model, clips[:2])) == said[:2]
    config.biased_beam.entities = ["tesla"]  # a config that names a list replaces it
    model.change_decoding_strategy(config, verbose=False)
    assert lists_of(model).current.shared.phrases == ("tesla",) and lists_of(model).given is None


def test_the_log_tells_of_a_list_once(model, clips, nemo_log):
    set_anew(model, ["tesla", "edison"])
    transcribe(model, clips[:2], timestamps=True)
    transcribe(model, clips[:2])
    assert [m for m in nemo_log if "phrase" in m] == ["INFO nemo_bias: 2 phrases, method arcs"]
    set_anew(model, LIST, method="adaptive")
    assert nemo_log[-1] == f"INFO nemo_bias: 336 phrases of {LIST}, method adaptive"
    set_anew(model, ["東京"])
    assert nemo_log[-1] == "WARNING nemo_bias: 0 phrases, method arcs"


def test_the_log_tells_of_phrases_that_are_kept_out(model, nemo_log):
    set_anew(model, {"four": -1.0})
    assert nemo_log == ["INFO nemo_bias: 0 phrases, 1 more that is kept out of the text, method arcs"]


def test_what_no_tokens_write_is_told_with_its_place(tmp_path):
    from nemo_bias.decoder.vocabulary import Vocabulary
    from nemo_bias.entities import read_entities
    from nemo_bias.integration.decoding.config import BiasedBeamConfig
    from nemo_bias.integration.decoding.lists import PreparedLists, _compiled

    (tmp_path / "names.txt").write_text("北京\n张 伟\n")
    search = PreparedLists(BiasedBeamConfig(language="zh", word_frequencies=None), Vocabulary(tuple("北京张伟"), 4)).search
    _, (note,) = _compiled(search, read_entities(tmp_path / "names.txt"))
    place = f"{tmp_path / 'names.txt'}:2"
    assert note.startswith(f'{place}: "张 伟" cannot be split into tokens of this model; leave the space out, or')


def test_a_list_stays_when_its_file_is_gone(model, clips, said, tmp_path):
    heard = next(k for k, names in enumerate(said) if names)
    (tmp_path / "names.txt").write_text("\n".join(said[heard]))
    set_anew(model, tmp_path / "names.txt", threads=1)
    (tmp_path / "names.txt").unlink()
    compiled = lists_of(model).current.listed
    set_entities(model, min_probability=0.4)
    assert lists_of(model).current.listed is compiled
    set_entities(model, variants=[])
    assert lists_of(model).current.listed.entities == compiled.entities
    assert spans(transcribe(model, [clips[heard]], timestamps=True)) == [said[heard]]


def test_the_log_tells_what_is_not_known_of_a_language(model, nemo_log):
    set_anew(model, ["tesla", "42"], language="de")
    assert nemo_log[-1] == "INFO nemo_bias: language de: without readings, inflections, g2g, pronunciations, pairs of words"
    assert 'entities:2: "42" is matched as "zweiundvierzig" (numbers)' in nemo_log[0]
    set_anew(model, ["tesla"], language="xx", variants=[], pronunciations="en")
    assert nemo_log[-1] == "INFO nemo_bias: language xx: without word frequencies, pairs of words"
    set_anew(model, ["tesla"], language="fr", variants=[], pronunciations="en")
    assert nemo_log[-1] == "INFO nemo_bias: language fr: without pairs of words"
    set_anew(model, ["tesla"], language="fr", variants=[], pronunciations="en", word_frequencies="de")
    assert nemo_log[-1] == "INFO nemo_bias: language fr: without pairs of words"
    for source in ("en", None, LIST):
        set_anew(model, ["tesla"], language="fr", variants=[], pronunciations="en", word_frequencies=source)
        assert nemo_log[-1] == "INFO nemo_bias: 1 phrase, method arcs"
    with pytest.raises(ValueError, match="language is 'German'; give its code"):
        set_anew(model, ["tesla"], language="German")


def test_a_file_is_read_again_when_it_has_changed(model, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("tesla\n")
    set_anew(model, names)
    compiled = lists_of(model).current.listed
    set_entities(model, names, nbest=2)
    assert lists_of(model).current.listed is compiled
    names.write_text("tesla\nedison\n")
    set_entities(model, names)
    assert lists_of(model).current.shared.phrases == ("tesla", "edison")


def test_remove_entities(clips):
    model = restored_demo()
    before = model.cfg.decoding.copy()
    expected = transcribe(model, clips[:2])
    set_entities(model, LIST, nbest=2)
    remove_entities(model)
    assert model.cfg.decoding.strategy == before.strategy and "biased_beam" not in model.cfg.decoding
    assert [h.text for h in transcribe(model, clips[:2])] == [h.text for h in expected]
    set_entities(model, ["tesla"])
    assert lists_of(model).current.config.nbest == 1


def test_a_saved_model_says_what_stays_behind(model, tmp_path, nemo_log):
    set_anew(model, ["tesla"])
    model.save_to(str(tmp_path / "model.nemo"))
    assert sum("is not saved with the model" in message for message in nemo_log) == 1
    set_anew(model, LIST)
    model.save_to(str(tmp_path / "model.nemo"))
    assert sum("is not saved with the model" in message for message in nemo_log) == 1


def test_python_lists_cost_what_files_cost(model, tmp_path):
    words = [f"{a}{b}{c}{d}son" for a in "bdfgklmnpt" for b in "aeiou" for c in "bdfgklmnpt" for d in "aeiou"]
    (tmp_path / "names.txt").write_text("\n".join(words))
    set_anew(model, words[:5], pronunciations=None)
    in_file, in_list = [], []
    for seconds, entities in 2 * [(in_file, tmp_path / "names.txt"), (in_list, words)]:
        gc.collect()  # else one of them pays for all garbage
        start = time.process_time()
        set_anew(model, entities, pronunciations=None)
        seconds.append(time.process_time() - start)
    assert min(in_list) < 2 * min(in_file) + 0.1
    assert "entities" not in model.cfg.decoding.biased_beam or not model.cfg.decoding.biased_beam.entities


# Compiled once


def test_a_compiled_list_serves_many_models(model, adapted, clips, said):
    set_anew(model)
    compiled = compile_entities(model, LIST)
    assert len(compiled) == 336
    for each in (model, adapted):
        set_anew(each, compiled)
        assert lists_of(each).current.listed is compiled
    set_anew(model, compiled)
    assert spans(transcribe(model, clips[:4])) == said[:4]
    set_entities(model, compiled, pronunciations=None)  # it is compiled anew, from its entities
    assert lists_of(model).current.listed is not compiled
    assert len(lists_of(model).current.shared) == 336


def test_a_list_for_other_tokens_is_refused(model):
    from nemo.collections.asr.models import EncDecCTCModel
    from test_integration import CHARACTERS, small_modules

    torch.manual_seed(1)
    config = small_modules(len(CHARACTERS), CHARACTERS) | {"labels": CHARACTERS, "optim": {"name": "adamw"}}
    other = EncDecCTCModel(OmegaConf.create(config)).eval()
    with pytest.raises(ValueError, match="compiled for a model with other tokens; use compile_entities with this one"):
        set_entities(other, compile_entities(model, ["tesla"]))
    set_entities(other, ["tesla", "edison"])
    other.change_vocabulary([*CHARACTERS, "é"])
    assert lists_of(other).current.shared.phrases == ("tesla", "edison")
    assert other.decoding.decoding.lists is lists_of(other)


# Threads


def in_threads(*jobs):
    """Runs the jobs at the same time, each many times, and returns what they returned."""
    results, barrier = [None] * len(jobs), threading.Barrier(len(jobs))

    def run(k):
        barrier.wait()
        results[k] = [jobs[k]() for _ in range(3)]

    workers = [threading.Thread(target=run, args=(k,)) for k in range(len(jobs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return results


def predict(model, clip, entities):
    """A batch with a list of its own, as NeMo's loaders give it to the model."""
    from types import SimpleNamespace

    cut = SimpleNamespace(id=clip["audio_filepath"], custom={"entities": entities})
    audio = audio_of(clip)
    batch = (*audio.values(), None, None, Cuts([cut]))
    with torch.no_grad():
        ((_, hypothesis),) = model.predict_step(batch, 0)
    return getattr(hypothesis, "text", hypothesis)


class Cuts(list):
    def map(self):
        raise NotImplementedError


@pytest.mark.parametrize("kind", ["model", "adapted"])
def test_threads_do_not_get_each_others_lists(request, clips, said, kind):
    model = request.getfixturevalue(kind)
    set_anew(model, None, threads=1)
    model.eval()
    jobs = [*[(clip, names) for clip, names in zip(clips, said, strict=True) if names][:3], (clips[0], [])]
    expected = [predict(model, *job) for job in jobs]
    plain = [predict(model, clip, []) for clip, _ in jobs]
    assert sum(a != b for a, b in zip(expected, plain, strict=True)) >= 2
    found = in_threads(*[lambda job=job: predict(model, *job) for job in jobs])
    assert found == [[text] * 3 for text in expected]


@pytest.mark.parametrize("kind", ["model", "adapted"])
def test_each_thread_can_use_a_list_of_its_own(request, clips, said, kind):
    model = request.getfixturevalue(kind)
    set_anew(model, ["tesla"], threads=1)
    model.eval()
    jobs = [(clip, compile_entities(model, names)) for clip, names in zip(clips, said, strict=True) if names][:3]

    def run(clip, names):
        with use_entities(model, names):
            return decode(model, clip).text

    expected = [run(*job) for job in jobs]
    without = [decode(model, clip).text for clip, _ in jobs]
    assert expected != without
    found = in_threads(*[lambda job=job: run(*job) for job in jobs], lambda: decode(model, jobs[0][0]).text)
    assert found == [*([text] * 3 for text in expected), [without[0]] * 3]


def test_a_list_of_ones_own_is_read_as_the_options_say(model, clips, said, tmp_path):
    heard = next(k for k, names in enumerate(said) if names)
    (tmp_path / "names").write_text(f"text,weight\n{said[heard][0]},2.5\n")
    set_anew(model, None, threads=1)
    with use_entities(model, tmp_path / "names", entity_format="csv", min_probability=0.3):
        own = lists_of(model).current
        assert [(entity.text, entity.weight) for entity in own.listed.entities] == [(said[heard][0], 2.5)]
        assert own.config.min_probability == 0.3
    with pytest.raises(ValueError, match="entity_file: give the list, or its path, as the second argument: use_entities"):
        use_entities(model, ["tesla"], entity_file="names.txt").__enter__()


def test_two_models_do_not_share_lists(model, adapted, clips, said):
    heard = next(k for k, names in enumerate(said) if names)
    set_anew(model, said[heard], threads=1)
    set_anew(adapted, ["tesla"], threads=1)
    model.eval()
    adapted.eval()
    expected = [spans([decode(each, clips[heard])]) for each in (model, adapted)]
    assert expected == [[said[heard]], [[]]]
    found = in_threads(*[lambda each=each: spans([decode(each, clips[heard])]) for each in (model, adapted)])
    assert found == [[each] * 3 for each in expected]


# Adapters


def test_an_adapter_works_in_a_plain_call(adapted, clips):
    set_anew(adapted, LIST)
    expected = transcribe(adapted, clips[:3])
    adapted.eval()
    adapted.preprocessor.featurizer.pad_to = 0  # as in transcribe
    found = [decode(adapted, clip) for clip in clips[:3]]
    single = [transcribe(adapted, [clip])[0] for clip in clips[:3]]
    assert [h.text for h in found] == [h.text for h in single]
    assert spans(found) == spans(single) and any(spans(found))
    assert len(expected) == 3
    with torch.no_grad():
        biased, _, _ = adapted.eval()(**audio_of(clips[0]))
        set_anew(adapted, None)
        plain, _, _ = adapted(**audio_of(clips[0]))
    assert not torch.equal(biased, plain)


def test_removing_and_replacing_adapters(clips, nemo_log, tmp_path):
    model = restored_demo()
    set_entities(model, LIST, method="greedy")
    plain = [h.y_sequence for h in transcribe(model, clips[:2])]
    hooks = len(model.encoder._forward_hooks)
    first = load_adapter(model, DEMO / "adapter.pt")
    name = next(iter(biasing_adapters(model)))
    biased = [h.y_sequence for h in transcribe(model, clips[:2])]
    assert not torch.equal(plain[0], biased[0])
    second = load_adapter(model, DEMO / "adapter.pt")
    assert second is not first and list(biasing_adapters(model)) == [name]
    assert torch.equal(transcribe(model, clips[:2])[0].y_sequence, biased[0])
    remove_adapter(model, name)
    assert not biasing_adapters(model) and name not in model.cfg.adapters
    assert len(model.encoder._forward_hooks) == hooks
    assert torch.equal(transcribe(model, clips[:2])[0].y_sequence, plain[0])
    with pytest.raises(ValueError, match="the model has no biasing adapter 'other'; it has none"):
        remove_adapter(model, "other")
    set_entities(model, adapter_file=str(DEMO / "adapter.pt"))
    assert list(biasing_adapters(model)) == [name]
    remove_adapter(model)
    assert not biasing_adapters(model) and model.cfg.decoding.biased_beam.adapter_file is None
    assert torch.equal(transcribe(model, clips[:2])[0].y_sequence, plain[0])
    model.save_to(str(tmp_path / "model.nemo"))
    assert nemo_bias.integration.encoder.biasing_adapter.enabled_adapters(model) == []
