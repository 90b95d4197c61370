"""What is set and cannot take effect is told; every rule of the table, and what must not be told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nemo_bias import Entity
from nemo_bias.integration.decoding.config import BiasedBeamConfig
from nemo_bias.integration.decoding.effects import RULES, Situation, without_effect

CONTEXTUAL = SimpleNamespace(contextual=object(), phones=None)
PHONES = SimpleNamespace(contextual=None, phones=object())
FILE = {"entity_file": "names.txt"}
SAID = Entity("katharina", pronunciations=("K AH",))


def situation(config=None, **changes):
    fields = {"model": "EncDecCTCModelBPE", "has_ctc": True, "transducer": False, "strategy": "biased_beam"}
    return Situation(**{**fields, "config": BiasedBeamConfig(**(config or {})), **changes})


CASES = [
    (
        situation(FILE, strategy="greedy"),
        ["biased_beam.entity_file has no effect because strategy is greedy; set stra"],
    ),
    (situation(strategy="beam_batch", given=True), ["the entity list has no effect because strategy is beam_batch"]),
    (
        situation(FILE, has_ctc=False),
        ["biased_beam.entity_file and strategy=biased_beam have no effect .* has no CTC"],
    ),
    (situation(transducer=True), ["strategy=biased_beam has no effect because .* transducer; set decoder_type=ctc"]),
    (situation({**FILE, "method": "greedy"}), ["entity_file has no effect because method is greedy.*load an adapter"]),
    (situation({"method": "greedy"}, given=True), ["the entity list has no effect because method is greedy"]),
    (situation({**FILE, "method": "greedy"}, adapters=[CONTEXTUAL]), []),
    (
        situation({**FILE, "method": "greedy", "adapter": False}, adapters=[CONTEXTUAL]),
        ["entity_file has no effect because method is greedy, .* no adapter is in use"],
    ),
    (
        situation({"method": "greedy", "lookup_distance": 0.2, "weight": 3}, adapters=[CONTEXTUAL], entities=[SAID]),
        ["weight, biased_beam.lookup_distance and every pronunciation in the entity list have no effect"],
    ),
    (situation({"boost": 3.0}), ["boost has no effect because method is arcs; set method=adaptive"]),
    (situation({"method": "adaptive", "boost": 3.0, "beam_size": 4}), []),
    (
        situation({"method": "adaptive", "word_frequencies": "de"}),
        ["word_frequencies has no effect because method is"],
    ),
    (
        situation({"method": "adaptive", "min_probability": 0.2}),
        ["min_probability has no effect because method is adaptive"],
    ),
    (
        situation({"method": "adaptive", "min_probability": 0.2, "pronunciations": "cmudict"}, adapters=[PHONES]),
        ["min_probability has no effect because method is adaptive"],
    ),
    (
        situation({"method": "adaptive", "lm_file": "words.lm", "entity_boost": 2.0, "class_boosts": {"person": 1.0}}),
        ["entity_boost and biased_beam.class_boosts have no effect because method is adaptive"],
    ),
    (
        situation({"method": "adaptive", "pronunciations": "cmudict"}),
        ["pronunciations has no effect because .* no phone head"],
    ),
    (situation({"pronunciations": None}, entities=[SAID]), ["every pronunciation in the entity list has no effect"]),
    (
        situation({"pronunciations": None, "lookup_distance": 0.2}),
        ["lookup_distance has no effect because pronunciati"],
    ),
    (situation({"phone_weight": 0.5}), ["phone_weight has no effect because the model has no phone head"]),
    (situation({"phone_weight": 0.5}, adapters=[PHONES]), []),
    (situation({"phone_weight": 0.0}), []),
    (situation({"adapter_weight": 2.0}), ["adapter_weight has no effect because no adapter with a contextual part"]),
    (situation({"adapter_weight": 2.0, "adapter": False}, adapters=[CONTEXTUAL]), ["adapter_weight .* adapter is false"]),
    (situation({"adapter_weight": 2.0}, adapters=[CONTEXTUAL]), []),
    (situation({"adapter_file": "a.pt", "adapter": False}, adapters=[CONTEXTUAL]), ["adapter_file has no effect"]),
    (situation({"adapter_file": "a.pt", "adapter": False}, adapters=[CONTEXTUAL, PHONES]), []),
    (situation({"entity_format": "tsv"}), ["entity_format has no effect because there is no entity_file; give the file"]),
    (situation({**FILE, "entity_format": "tsv"}), []),
    (
        situation({"boost": 3.0, "entity_format": "tsv"}),
        ["boost has no effect because method is arcs", "entity_format has no effect because there is no entity_file"],
    ),
    (situation(FILE, given=False, entities=[Entity("katharina", weight=2.0)]), []),
    (situation({"method": "adaptive", "word_frequencies": None, "pronunciations": None, "lookup_distance": None}), []),
    (situation({"lm_weight": 0.5}), ["lm_weight has no effect because there is no lm_file; give a language model"]),
    (situation({"lm_weight": 0.5, "lm_file": "words.arpa", "beam_size": 4}), []),
    (situation({"method": "greedy", "lm_file": "words.arpa", "beam_size": 4}), []),
    (situation({"method": "greedy", "nbest": 3}), ["nbest has no effect because method is greedy"]),
    (situation({"beam_size": 4}), ["beam_size has no effect because method is arcs, and there is no lm_file"]),
    (
        situation({"g2g_file": "rules.tsv", "variants": []}),
        ["g2g_file has no effect because g2g is not among the variants; add it"],
    ),
    (situation({"g2g_file": "rules.tsv"}), []),
    (situation({"method": "adaptive", "variants": ["g2g"]}), ["variants has no effect because method is adaptive"]),
    (situation({"method": "adaptive", "variants": []}), []),
    (situation(), []),
    (situation(own=[]), []),
    (
        situation({"min_probability": 0.3, "nbest": 2}, own=[]),
        ["min_probability has no .* no entity list", "nbest has no .* no ent"],
    ),
    (situation({"lm_file": "words.lm", "nbest": 2, "beam_size": 4, "threads": 2}, own=[]), []),
    (situation({"min_probability": 0.3}, own=[SAID]), []),
    (situation({"min_probability": 0.3}, own=[], entities=[SAID], given=True), []),
    (
        situation({"entity_field": "names"}, own=[], manifest="m.jsonl"),
        ["entity_field has no effect because no line of m.jsonl has that field; name the field"],
    ),
    (
        situation({**FILE, "entity_field": "names"}, own=[]),
        ["entity_field has .* because the audio comes without a manifest"],
    ),
    (situation({"entity_field": "names"}, own=[SAID], manifest="m.jsonl", has_field=True), []),
    (situation({"entity_field": "names"}, own=[], manifest="m.jsonl", has_field=True), []),
    (
        situation({"method": "greedy"}, own=[Entity("a")]),
        ["every list of a single utterance has no effect because method is greedy"],
    ),
    (situation({"pronunciations": None}, own=[SAID]), ["every pronunciation in the entity list has no effect"]),
    (
        situation(
            {"lm_file": "words.lm", "class_boosts": {"persn": 1.0}},
            own=[Entity("a", entity_class="person")],
            entities=[SAID],
        ),
        ["class_boosts: no entity of the list has the class 'persn'; its classes: person"],
    ),
    (situation({"lm_file": "words.lm", "class_boosts": {"person": 1.0}}, own=[Entity("a", entity_class="person")]), []),
    (situation({"lm_file": "words.lm", "class_boosts": {"person": 1.0}}, entities=[SAID]), []),
]


@pytest.mark.parametrize(("now", "expected"), CASES)
def test_what_has_no_effect(now, expected):
    import re

    told = list(without_effect(now))
    assert len(told) == len(expected), told
    for message, pattern in zip(told, expected, strict=True):
        assert re.search(pattern, message), message


def test_switched_off(monkeypatch):
    monkeypatch.setenv("NEMO_BIAS", "off")
    (message,) = without_effect(situation(FILE))
    assert message == "biased_beam.entity_file has no effect because the environment variable NEMO_BIAS is off; unset it"
    assert not list(without_effect(situation()))


def test_every_rule_has_a_case():
    held = {
        k for now, _ in CASES for k, rule in enumerate(RULES) if rule.holds(now) and set(rule.things) & set(now.set_things())
    }
    assert held == set(range(1, len(RULES)))  # the first is that of the switch
