"""The config node, its file and its table in the documentation say the same."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_bias.adapter.config import PhoneHeadConfig
from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.integration.decoding.config import BiasedBeamConfig, biased_beam_config
from nemo_bias.integration.encoder.adapter_config import BiasingAdapterConfig
from nemo_bias.languages import language

ROOT = Path(__file__).resolve().parent.parent


def test_config_file_holds_every_option_at_its_default():
    written = OmegaConf.load(ROOT / "configs" / "biased_beam.yaml").biased_beam
    assert OmegaConf.to_container(written) == dataclasses.asdict(BiasedBeamConfig())


def test_adapter_config_file_holds_every_option_at_its_default():
    text = (ROOT / "configs" / "biasing_adapter.yaml").read_text(encoding="utf-8")
    defaults = dataclasses.asdict(BiasingAdapterConfig())
    written = OmegaConf.to_container(OmegaConf.create(text).biasing)
    assert written == {key: defaults[key] for key in ("_target_", "contextual", "phones", "training")}
    with_head = OmegaConf.create(re.sub(r"^  phones: null.*\n", "", text, flags=re.M).replace("\n  # ", "\n  "))
    assert OmegaConf.to_container(with_head.biasing.phones) == dataclasses.asdict(PhoneHeadConfig())


def test_the_documentation_lists_every_option_with_its_default():
    text = (ROOT / "docs" / "options.md").read_text(encoding="utf-8").split("\n## ")[0]
    written = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.MULTILINE))
    assert written.keys() == {option.name for option in dataclasses.fields(BiasedBeamConfig)}
    for name, default in dataclasses.asdict(BiasedBeamConfig()).items():
        if isinstance(default, (list, dict)):
            shown = ", ".join(default) or "none"
        else:
            shown = f"`{default}`" if isinstance(default, str) else str(default).lower()
        assert written[name] == shown, name


def test_every_option_has_a_help_text():
    assert all(option.metadata["help"] for option in dataclasses.fields(BiasedBeamConfig))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"wieght": 2}, r"biased_beam.wieght: unknown option, did you mean .weight.\?"),
        ({"beam_size": "many"}, "biased_beam.beam_size: 'many' does not fit"),
        ({"entities": 3}, "biased_beam.entities: 3 does not fit"),
        ({"threshold": 1}, "biased_beam.threshold: unknown option"),
    ],
)
def test_wrong_options_name_the_field(node, message):
    with pytest.raises(ValueError, match=message):
        biased_beam_config(node)


def test_options_come_from_mappings_and_omegaconf():
    assert biased_beam_config(None) == BiasedBeamConfig()
    assert biased_beam_config({"weight": 2}).weight == 2.0
    assert biased_beam_config(OmegaConf.create({"entities": ["a", {"text": "b"}]})).entities == ["a", {"text": "b"}]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"min_probability": 0}, "min_probability is 0.0; it must lie between 0 and 1"),
        ({"min_probability": 1}, "min_probability is 1.0; it must lie between 0 and 1"),
        ({"weight": -1}, "weight is -1.0; give a finite number of 0 or more"),
        ({"phone_weight": -1}, "phone_weight is -1.0; give a finite number of 0 or more"),
        ({"boost": float("inf")}, "boost is inf; give a finite number of 0 or more"),
        ({"token_margin": -1}, "token_margin is -1.0; give 0 or more"),
        ({"nbest": 0}, "nbest is 0; it must be at least 1"),
        ({"threads": -1}, "threads is -1; it must be at least 0"),
        ({"adapter_weight": float("nan")}, "adapter_weight is nan; give a finite number"),
        ({"most_tokens": 0}, "most_tokens is 0; it must be at least 1"),
        ({"method": "beam"}, "method is 'beam'; choose one of arcs, adaptive, greedy"),
    ],
)
def test_values_that_make_no_sense(node, message):
    with pytest.raises(ValueError, match=message):
        biased_beam_config(node).check()


@pytest.mark.parametrize("code", ["zh", "ja", "ko"])
def test_word_frequencies_that_need_more_packages_are_not_used(code, monkeypatch):
    import wordfreq

    from nemo_bias.decoder.frequencies import word_frequencies
    from nemo_bias.languages import splits_words

    def split(word, source):
        raise ModuleNotFoundError("No module named 'jieba'")

    monkeypatch.setattr(wordfreq, "zipf_frequency", split)
    splits_words.cache_clear()
    language.cache_clear()
    assert DecodingOptions(language=code).frequency_source is None
    word_frequencies.cache_clear()
    with pytest.raises(ValueError, match=r"wordfreq needs more packages for that; pip install 'wordfreq\[cjk\]'"):
        word_frequencies(code)
    splits_words.cache_clear()
    language.cache_clear()
