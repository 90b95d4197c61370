"""Loads the small file that NeMo's `save_adapters` and `train_asr_adapter.py` write, without running code from it.

NeMo's own `load_adapters` unpickles whatever is in the file, which PyTorch refuses by default.
"""

from __future__ import annotations

import collections
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.base import ContainerMetadata, Metadata
from omegaconf.errors import OmegaConfBaseException
from omegaconf.nodes import AnyNode

from nemo_bias.integration.encoder.adapter_config import adapter_config, recogniser_of
from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter, biasing_adapters
from nemo_bias.integration.encoder.conformer import check_encoder, check_recogniser, is_ours
from nemo_bias.integration.registration.patches import check_registered

# What an OmegaConf config is made of; with tensors, all that such a file may hold.
HARMLESS: list[Any] = [
    DictConfig,
    ListConfig,
    AnyNode,
    ContainerMetadata,
    Metadata,
    typing.Any,
    collections.defaultdict,
    dict,
    list,
    int,
]


class AdapterFileError(ValueError):
    """An adapter file is broken, or does not fit the model."""


def read_adapter_file(path: str | Path) -> dict[str, Any]:
    """The content of an adapter file: under ``__cfg__`` the configs, under each adapter's name a list of state dicts.

    Raises:
        AdapterFileError: there is no such file, or it is broken or holds anything but configs and tensors.
    """
    try:
        with torch.serialization.safe_globals(HARMLESS):
            content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content["__cfg__"], DictConfig):
            raise TypeError("its configs are missing")
    except FileNotFoundError as error:
        raise AdapterFileError(f"{path}: there is no such file; check the path") from error
    except Exception as error:  # torch's own message advises to load the file unsafely, which helps with none of ours
        held = " and nothing else" if "Unsupported" in str(error) else ""
        advice = f"give one that holds configs and weights{held}, as NeMo's save_adapters and train_adapter.py write it"
        raise AdapterFileError(f"{path}: not an adapter file that NeMo saved; {advice}") from error
    return {key: value for key, value in content.items() if key == "__cfg__" or isinstance(value, list)}


def load_adapter(
    model: Any, path: str | Path, name: str | None = None, changes: Mapping[str, Any] | None = None
) -> BiasingAdapter:
    """Adds a saved biasing adapter to a stock NeMo model and enables it; it replaces one of the same name.

    Args:
        model: a restored NeMo CTC or hybrid model with a Conformer encoder.
        path: file that `save_adapters` or `train_asr_adapter.py` (as `adapters.pt`) wrote.
        name: which of its adapters, if there are several.
        changes: options that shall differ from those in the file. A part that is new by them, such as `{"phones": {}}`,
            starts untrained.

    Returns:
        The adapter, in the mode (training or evaluation) and on the device of the model.

    Raises:
        AdapterFileError: the file is broken, has no such adapter, was made for another recogniser, has weights of other
            sizes than `changes` ask for, or the model has an adapter of another kind under that name.
        UnknownNeMoError: this package stays out of an unknown NeMo.
    """
    check_registered()
    content = read_adapter_file(path)
    configs = content["__cfg__"]
    found = {key.rpartition(":")[2]: states for key, states in content.items() if key != "__cfg__"}
    ours = [key for key in found if is_ours(configs.get(key) or {})]
    if name is None and len(ours) != 1:
        held = f"has the biasing adapters {', '.join(ours)}; say which" if ours else "has no biasing adapter"
        raise AdapterFileError(f"{path} {held}")
    name = name or ours[0]
    if name not in ours:
        raise AdapterFileError(f"{path} has no biasing adapter {name!r}; it has {', '.join(ours) or 'none'}")
    replaced = name in (model.cfg.get("adapters") or {})
    if replaced and name not in biasing_adapters(model):
        raise AdapterFileError(f"{path}: the model has an adapter of another kind named {name!r} already")
    try:
        check_encoder(model)
        check_recogniser(configs[name].get("recogniser"), recogniser_of(model), f"{path}: adapter {name!r}")
        config: Any = OmegaConf.merge(configs[name], OmegaConf.create(dict(changes or {})))
        state = _state(found[name], name)
        adapter = BiasingAdapter(**config)  # of its own, so that a wrong file leaves the model as it was
        state |= _new_parts(adapter, configs[name])
        adapter.load_state_dict(state)
    except (OmegaConfBaseException, RuntimeError, TypeError, ValueError) as error:
        raise AdapterFileError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    if replaced:
        detach_adapter(model, name)
    with torch.inference_mode(False):  # `transcribe` loads it within one, where parameters would never be trainable again
        model.add_adapter(name, cfg=config)
        added: BiasingAdapter = model.encoder.adapter_layer[name]
        added.load_state_dict(state)
        model.set_enabled_adapters(name, enabled=True)
        return added.train(model.training).to(model.device)


def detach_adapter(model: Any, name: str) -> None:
    """Removes a biasing adapter from a model; NeMo itself cannot.

    Raises:
        ValueError: the model has no such biasing adapter.
    """
    present = biasing_adapters(model)
    if name not in present:
        raise ValueError(f"the model has no biasing adapter {name!r}; it has {', '.join(present) or 'none'}")
    present[name].detach()
    del model.encoder.adapter_layer[name]
    for config in (model.cfg.adapters, model.encoder.adapter_cfg):
        with open_dict(config):
            config.pop(name, None)
            for metadata in (config.get(model.adapter_global_cfg_key) or {}).values():
                if isinstance(metadata, DictConfig) and "modules" in metadata:
                    metadata.modules.pop(name, None)


def _new_parts(adapter: BiasingAdapter, stored: Any) -> dict[str, torch.Tensor]:
    """The weights of an adapter that belong to parts that its stored config does not have."""
    config = adapter_config(stored)
    new = tuple(f"{part}." for part in ("contextual", "phones") if getattr(config, part) is None)
    return {key: value for key, value in adapter.state_dict().items() if key.startswith(new)}


def holds_adapters(model: Any, path: str | Path) -> bool:
    """Whether a model has the adapters of a file already, such as one that was saved after they were loaded.

    Raises:
        AdapterFileError: the file is broken.
    """
    present = biasing_adapters(model)
    stored = {key.rpartition(":")[2]: states for key, states in read_adapter_file(path).items() if key != "__cfg__"}
    return bool(stored) and all(
        name in present and _equal(present[name], _state(states, name)) for name, states in stored.items()
    )


def _equal(adapter: BiasingAdapter, wanted: dict[str, torch.Tensor]) -> bool:
    state = adapter.state_dict()
    return state.keys() == wanted.keys() and all(
        torch.equal(value.to(state[key]), state[key]) for key, value in wanted.items()
    )


def _state(states: list[dict[str, torch.Tensor]], name: str) -> dict[str, torch.Tensor]:
    if len(states) != 1:
        raise AdapterFileError(f"adapter {name!r} has {len(states)} sets of weights; a biasing adapter has one")
    return {key.removeprefix(f"{name}."): value for key, value in states[0].items() if key.startswith(f"{name}.")}
