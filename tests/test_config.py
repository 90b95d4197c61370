"""The config node, its file and its table in the README say the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nemo_bias.integration.decoding.config import BiasedBeamConfig, biased_beam_config
from nemo_bias.integration.encoder.adapter_config import BiasingAdapterConfig

ROOT = Path(__file__).resolve().parent.parent


def test_config_file_holds_every_option_at_its_default():
    written = OmegaConf.load(ROOT / "configs" / "biased_beam.yaml").biased_beam
    assert OmegaConf.to_container(written) == dataclasses.asdict(BiasedBeamConfig())


def test_adapter_config_file_holds_every_option_at_its_default():
    written = OmegaConf.to_container(OmegaConf.load(ROOT / "configs" / "biasing_adapter.yaml").biasing)
    defaults = dataclasses.asdict(BiasingAdapterConfig())
    assert written == {key: defaults[key] for key in ("_target_", "contextual", "training")}


def test_readme_lists_every_option():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for option in dataclasses.fields(BiasedBeamConfig):
        assert f"| `{option.name}` | " in readme, option.name


def test_every_option_has_a_help_text():
    assert all(option.metadata["help"] for option in dataclasses.fields(BiasedBeamConfig))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"wieght": 2}, r"biased_beam.wieght: unknown option; did you mean 'weight'\?"),
        ({"beam_size": "many"}, "biased_beam.beam_size: 'many' does not fit"),
        ({"entities": 3}, "biased_beam.entities: 3 does not fit"),
    ],
)
def test_wrong_options_name_the_field(node, message):
    with pytest.raises(ValueError, match=message):
        biased_beam_config(node)


def test_options_come_from_mappings_and_omegaconf():
    assert biased_beam_config(None) == BiasedBeamConfig()
    assert biased_beam_config({"weight": 2}).weight == 2.0
    assert biased_beam_config(OmegaConf.create({"entities": ["a", {"text": "b"}]})).entities == ["a", {"text": "b"}]
