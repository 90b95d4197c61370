"""Why a NeMo model writes an entity, or does not."""

from __future__ import annotations

import json

import pytest
from conftest import DEMO, restored_demo, set_anew

from nemo_bias import explain, load_adapter, remove_adapter, remove_entities
from nemo_bias.integration.decoding.explaining import explain_item

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    return restored_demo()


@pytest.fixture(scope="module")
def clip():
    """The first bundled clip: "... the family compact in upper canada"."""
    return str(DEMO / json.loads((DEMO / "clips.jsonl").read_text().splitlines()[0])["audio_filepath"])


def told(model, clip, entities):
    return [str(each) for each in explain(model, clip, entities)]


def test_it_tells_what_the_transcript_has(model, clip):
    set_anew(model, ["Family Compact", "lower canadian", "Zürich"])
    (hypothesis,) = model.transcribe([clip], return_hypotheses=True, verbose=False)
    (span,) = hypothesis.entity_spans
    found, missed = explain(model, clip, ["family compact", "lower canadian"])
    assert found.written and found.entity == "Family Compact" and found.attention is None
    assert found.probability == pytest.approx(span.probability, abs=1e-4)
    assert (found.start, found.end) == (pytest.approx(span.start * 0.08), pytest.approx((span.end + 1) * 0.08))
    assert not missed.written and missed.start is not None and "token" in missed.reason
    (zurich,) = explain(model, clip, "Zürich")
    assert zurich.tokens and not zurich.written


def test_what_is_not_looked_for(model, clip):
    set_anew(model, [{"text": "Family Compact"}, {"text": "東京"}, {"text": "canada", "weight": -2.0}])
    assert "cannot be written by this model" in told(model, clip, "東京")[0]
    assert told(model, clip, "canada") == [
        "canada: not written; its weight is -2: below 0, a phrase is kept out of the text"
    ]
    assert told(model, clip, "Family Compakt") == [
        'Family Compakt: not written; it is not in the list of 3 phrases, did you mean "Family Compact"?'
    ]
    set_anew(model, None)
    assert told(model, clip, "canada") == ["canada: not written; there is no list in use"]


def test_an_utterances_own_entities(model, clip):
    set_anew(model, None)
    (own,) = explain_item(model, {"audio_filepath": clip, "entities": ["family compact"]}, ["family compact"])
    assert own.written


def test_what_an_adapter_attended_to(model, clip):
    load_adapter(model, DEMO / "adapter.pt")
    set_anew(model, DEMO / "entities.txt")
    (found,) = explain(model, clip, "family compact")
    highest, time = found.attention
    assert 0 < highest <= 1 and 0 <= time <= 8 and "the adapter's attention" in str(found)
    remove_adapter(model)


def test_an_adapter_is_asked_for_the_entity_that_is_meant(model, clip):
    """Also behind one that is in both lists, which the adapter has once."""
    load_adapter(model, DEMO / "adapter.pt")
    set_anew(model, ["family compact", "canada"])
    highest = [
        explain_item(model, {"audio_filepath": clip, "entities": [*own, "tesla"]}, ["tesla"])[0].attention[0]
        for own in ([], ["canada"])
    ]
    assert highest[0] == highest[1]
    remove_adapter(model)


def test_what_cannot_be_explained(model, clip):
    set_anew(model, ["canada"], method="adaptive")
    with pytest.raises(ValueError, match="method is adaptive; only what method=arcs does"):
        explain(model, clip, "canada")
    remove_entities(model)
    with pytest.raises(ValueError, match=r"does not decode with biased_beam.*call set_entities"):
        explain(model, clip, "canada")
    set_anew(model, ["canada"])
    with pytest.raises(FileNotFoundError, match=r"no audio file .*no\.wav"):
        explain(model, "no.wav", "canada")
