"""The typed config node for NeMo's scripts, which refuse keys that their config classes do not have."""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_bias.integration.decoding.config import STRATEGY, BiasedBeamConfig


def add_biased_beam_nodes() -> None:
    """Adds the node to every CTC decoding config that a Hydra program has registered."""
    for entry in _nodes(ConfigStore.instance().repo):
        for node in _ctc_decoding_nodes(entry):
            if STRATEGY not in node:
                with open_dict(node):
                    node[STRATEGY] = OmegaConf.structured(BiasedBeamConfig)


def _nodes(repo: dict[str, Any]) -> list[DictConfig]:
    found = []
    for value in repo.values():
        if isinstance(value, dict):
            found += _nodes(value)
        elif isinstance(value.node, DictConfig):
            found.append(value.node)
    return found


def _ctc_decoding_nodes(node: DictConfig) -> list[DictConfig]:
    kind = OmegaConf.get_type(node)
    if kind is not None and any(base.__name__ == "CTCDecodingConfig" for base in getattr(kind, "__mro__", ())):
        return [node]
    found = []
    for key in node:
        child = None if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, str(key)) else node[key]
        if isinstance(child, DictConfig):
            found += _ctc_decoding_nodes(child)
    return found
