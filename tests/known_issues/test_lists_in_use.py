"""What users saw whose list was not used, was lost, or reached the wrong utterances."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import set_anew
from omegaconf import OmegaConf
from test_adapter_nemo import hybrid_model
from test_integration import DEMO, LIST, decoding_config, texts, transcribe, transcribe_manifest

from nemo_bias import EntityListError, set_entities
from nemo_bias.integration.decoding.model_lists import lists_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    from nemo.collections.asr.models import ASRModel

    return ASRModel.restore_from(str(DEMO / "demo.nemo"), map_location="cpu").eval()


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory):
    return hybrid_model(tmp_path_factory.mktemp("hybrid"))


@pytest.fixture(scope="module")
def clips():
    items = [json.loads(line) for line in (DEMO / "clips.jsonl").read_text().splitlines()]
    return [{**item, "audio_filepath": str(DEMO / item["audio_filepath"])} for item in items][:4]


@pytest.fixture
def told(nemo_log):
    """What the log says of things without effect."""
    return lambda: [message.partition("nemo_bias: ")[2] for message in nemo_log if "no effect" in message]


def program(**ctc_decoding):
    """The config of transcribe_speech.py, as far as it is about decoding."""
    rnnt = {"strategy": "greedy_batch", "greedy": {"max_symbols": 2}}
    return OmegaConf.create({"ctc_decoding": ctc_decoding, "rnnt_decoding": rnnt, "decoder_type": None})


# A list that is not used


def test_a_list_with_strategy_greedy(model, clips, told):
    model.change_decoding_strategy(decoding_config(model, "greedy", biased_beam__entity_file=LIST), verbose=False)
    transcribe(model, clips[:1])
    transcribe(model, clips[:1])
    assert told() == ["biased_beam.entity_file has no effect because strategy is greedy; set strategy=biased_beam"]


def test_a_hybrid_model_without_decoder_type(hybrid, clips, told):
    cfg = program(strategy="biased_beam", biased_beam={"entity_file": LIST})
    hybrid.change_decoding_strategy(cfg.rnnt_decoding, verbose=False)
    assert told() == [
        "biased_beam.entity_file and strategy=biased_beam have no effect because EncDecHybridRNNTCTCBPEModel decodes with "
        "its transducer; set decoder_type=ctc"
    ]
    with pytest.raises(ValueError, match=r"strategy=biased_beam decodes with CTC.*; set decoder_type=ctc"):
        hybrid.change_decoding_strategy(cfg.ctc_decoding, verbose=False)
    set_entities(hybrid, ["tesla"])
    hybrid.change_decoding_strategy(decoder_type="rnnt", verbose=False)
    transcribe(hybrid, clips[:1])
    assert "the entity list and strategy=biased_beam have no effect" in told()[-1]


def test_the_switch_was_left_off(model, clips, told, monkeypatch):
    monkeypatch.setenv("NEMO_BIAS", "off")
    set_anew(model, LIST)
    transcribe(model, clips[:1])
    assert told() == ["biased_beam.entity_file has no effect because the environment variable NEMO_BIAS is off; unset it"]
    monkeypatch.delenv("NEMO_BIAS")
    assert any(h.entity_spans for h in transcribe(model, clips))


def test_method_greedy_without_an_adapter(model, clips, told):
    set_anew(model, LIST, method="greedy")
    transcribe(model, clips[:1])
    (message,) = told()
    assert message.startswith("biased_beam.entity_file has no effect because method is greedy, with which only an adapter")


def test_options_of_an_adapter_that_is_not_there(model, clips, told):
    set_anew(model, LIST, phone_weight=0.5, adapter_weight=2.0)
    transcribe(model, clips[:1])
    assert [message.partition(" because ")[0] for message in told()] == [
        "biased_beam.phone_weight has no effect",
        "biased_beam.adapter_weight has no effect",
    ]


def test_a_misspelled_strategy(model):
    with pytest.raises(ValueError, match=r"'beam_batch', 'biased_beam'\]. Given biased_beem, did you mean .biased_beam.\?"):
        model.change_decoding_strategy(decoding_config(model, "biased_beem"), verbose=False)
    with pytest.raises(ValueError, match=r"'biased_beam'\]. Given magic$"):
        model.change_decoding_strategy(decoding_config(model, "magic"), verbose=False)


def test_boosts_by_phrase_lost_their_boosts(model):
    set_anew(model, {"tesla": 3.0, "edison": 0.5})
    assert lists_of(model).current.shared.weights.tolist() == [3.0, 0.5]


def test_adding_a_spelling_as_advised_did_not_help(model):
    set_anew(model, ["東京", "tesla"])
    assert lists_of(model).current.shared.phrases == ("tesla",)
    set_anew(model, [{"text": "東京", "spellings": ["tokyo"]}, "tesla"])
    assert lists_of(model).current.shared.phrases == ("tokyo", "tesla")


# A list that was refused, or lost


def test_a_broken_list_took_the_service_down(model, clips, tmp_path):
    names = tmp_path / "names.jsonl"
    shutil.copy(LIST, tmp_path / "names.txt")
    names.write_text("".join(json.dumps(line) + "\n" for line in (tmp_path / "names.txt").read_text().splitlines()))
    set_anew(model, names)
    expected = texts(transcribe(model, clips))
    names.write_text('"tesla"\n{"text": \n')
    with pytest.raises(EntityListError, match=r"names\.jsonl:2"):
        set_entities(model, names)
    assert texts(transcribe(model, clips)) == expected


def test_a_second_list_reset_the_options(model):
    set_anew(model, LIST, min_probability=0.2)
    set_entities(model, ["tesla"])
    assert model.cfg.decoding.biased_beam.min_probability == 0.2


@pytest.mark.parametrize("entities", [["cost ${price}", "${"], ["a: b", "{c}", "???"], ["${oc.env:HOME}", "tesla"]])
def test_what_a_config_would_interpret(model, entities):
    set_anew(model, entities)
    assert [entity.text for entity in lists_of(model).current.listed.entities] == entities


def test_entities_in_a_config_still_work(model, clips):
    names = ["bird", {"text": "museum", "weight": 2}]
    model.change_decoding_strategy(decoding_config(model, "biased_beam", biased_beam__entities=names), verbose=False)
    assert lists_of(model).current.shared.phrases == ("bird", "museum")
    assert lists_of(model).current.shared.weights.tolist() == [1.0, 2.0]


# One bad line


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        (7, r":3: entities of C\.opus is 7; expected a list"),
        ({"text": "tesla"}, r":3: entities of C\.opus is .*; expected a list"),
        (["tesla", ""], r":3: entities of C\.opus:2: text is empty"),
        ([{"text": "tesla", "wieght": 1}], r":3: entities of C\.opus:1: 'wieght' is not a key"),
        ([None], r":3: entities of C\.opus:1: the entity is null"),
        ([{"text": "tesla", "pronunciations": ["SH IX"]}], r':3: entities of C\.opus:1: pronunciation "SH IX"'),
    ],
)
@pytest.mark.parametrize("sorted_by_nemo", [False, True])
def test_one_bad_line_ended_a_long_run(model, clips, tmp_path, monkeypatch, entities, message, sorted_by_nemo):
    from nemo.collections.asr.parts.utils import transcribe_utils

    encoded = []
    monkeypatch.setattr(type(model), "_transcribe_forward", lambda *args: encoded.append(1))
    shutil.copy(clips[2]["audio_filepath"], tmp_path / "C.opus")
    items = [clips[0], {**clips[1], "entities": ["tesla"]}, {**clips[2], "audio_filepath": str(tmp_path / "C.opus")}]
    items[2] |= {"entities": entities, "duration": 9.0}  # the longest, so that NeMo's script puts it first
    set_anew(model)
    manifest = tmp_path / "calls.jsonl"
    if sorted_by_nemo:
        manifest.write_text("".join(json.dumps(item) + "\n" for item in items))
        cfg = {"audio_dir": None, "append_pred": False, "dataset_manifest": str(manifest), "presort_manifest": True}
        _, sorted_manifest = transcribe_utils.prepare_audio_data(OmegaConf.create(cfg))
        with pytest.raises(EntityListError, match=r"calls\.jsonl" + message):
            model.transcribe(sorted_manifest, batch_size=1, verbose=False)
    else:
        with pytest.raises(EntityListError, match=r"calls\.jsonl" + message):
            transcribe_manifest(model, items, manifest)
    assert not encoded
