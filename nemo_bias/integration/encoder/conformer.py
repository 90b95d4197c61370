"""Lets NeMo's Conformer encoders and adapter models hold a biasing adapter.

NeMo puts a copy of an adapter into every layer of a Conformer. Ours is attached to the encoder itself, beside any that the
layers have. `model.add_adapter` fills in what the adapter must know of the recogniser.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_bias.integration.encoder.adapter_config import (
    ADAPTER_TARGET,
    BiasingAdapterConfig,
    RecogniserConfig,
    adapter_config,
    ctc_decoding,
    phone_layer,
    query_layers,
    recogniser_of,
)
from nemo_bias.integration.registration.patches import wrap_method
from nemo_bias.integration.registration.targets import OUR_PREFIX
from nemo_bias.options import typed_config


def apply(module: ModuleType) -> None:
    """Extends one of NeMo's modules in ``EXTENDED``.

    Raises:
        UnknownNeMoError: the module is not the one that this package knows.
    """
    EXTENDED[module.__name__.rpartition(".")[2]](module)


def _extend_encoder(conformer: ModuleType) -> None:
    for name, wrapper in {
        "add_adapter": _add_to_encoder,
        "is_adapter_available": _is_available,
        "set_enabled_adapters": _set_enabled,
        "get_enabled_adapters": _get_enabled,
        "get_accepted_adapter_types": _accepted_types,
    }.items():
        wrap_method(conformer.ConformerEncoderAdapter, name, wrapper)


def _extend_model(mixins: ModuleType) -> None:
    wrap_method(mixins.ASRAdapterModelMixin, "add_adapter", _add_to_model)
    wrap_method(mixins.AdapterModelPTMixin, "save_adapters", _saying_where)


FILE_OPTION = "ctc_decoding.biased_beam.adapter_file"
EXTENDED: dict[str, Callable[[ModuleType], None]] = {
    "conformer_encoder": _extend_encoder,
    "asr_adapter_mixins": _extend_model,
}


def is_ours(cfg: Any) -> bool:
    """Whether an adapter's config asks for a biasing adapter."""
    return str(cfg.get("_target_", "")).startswith(OUR_PREFIX)


def _add_to_model(original: Callable[..., Any]) -> Callable[..., Any]:
    """`ASRAdapterModelMixin.add_adapter`: checks the config of ours, and writes out every default that it relies on."""

    def wrapped(self: Any, name: str, cfg: Any) -> Any:
        cfg = OmegaConf.structured(cfg) if not isinstance(cfg, DictConfig) else cfg
        if is_ours(cfg):
            check_encoder(self)
            check_recogniser(cfg.get("recogniser"), recogniser_of(self), f"adapter {name!r}")
            config = _checked(cfg, recogniser_of(self))  # now, since NeMo keeps the config of an adapter that fails
            _prepare_encoder(self)
            cfg = OmegaConf.create(dataclasses.asdict(config))
        return original(self, name, cfg)

    return wrapped


def _saying_where(original: Callable[..., Any]) -> Callable[..., Any]:
    """`AdapterModelPTMixin.save_adapters`: tells where a program of NeMo's that has trained a biasing adapter puts it."""

    def wrapped(self: Any, filepath: str, name: str | None = None) -> Any:
        saved = original(self, filepath, name)
        trained = self.trainer is not None and self.trainer.state.finished
        if trained and any(is_ours(cfg) for cfg in self.cfg.adapters.values() if isinstance(cfg, DictConfig)):
            from nemo.utils import logging

            logging.info(f"nemo_bias: the adapter is in {filepath}; use it with {FILE_OPTION}={filepath}")
        return saved

    return wrapped


def check_encoder(model: Any) -> None:
    """Refuses models that cannot have a biasing adapter.

    Raises:
        TypeError: the model has another kind of encoder, or no CTC decoder.
    """
    from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder

    if not isinstance(getattr(model, "encoder", None), ConformerEncoder):
        raise TypeError(f"a biasing adapter needs a Conformer encoder; {type(model).__name__} has none")
    ctc_decoding(model)


def _checked(cfg: Any, recogniser: RecogniserConfig) -> BiasingAdapterConfig:
    """The config of an adapter for a recogniser."""
    config = dataclasses.replace(adapter_config(cfg), _target_=ADAPTER_TARGET, recogniser=recogniser)
    if config.contextual is not None:
        query_layers(config.contextual, recogniser.encoder_layers)
    if config.phones is not None:
        phone_layer(config.phones, recogniser.encoder_layers)
    return config


def _prepare_encoder(model: Any) -> None:
    """Gives the encoder the class that can hold adapters, in its config by the full path: `restore_from` knows no other."""
    from nemo.collections.asr.modules.conformer_encoder import ConformerEncoderAdapter

    if not isinstance(model.encoder, ConformerEncoderAdapter):
        model.replace_adapter_compatible_modules(update_config=False, verbose=False)
    with open_dict(model.cfg):
        model.cfg.encoder._target_ = f"{ConformerEncoderAdapter.__module__}.{ConformerEncoderAdapter.__qualname__}"


def check_recogniser(made_for: Any, present: RecogniserConfig, adapter: str) -> None:
    """Refuses an adapter that does not fit a recogniser; one that was made for none fits any.

    Raises:
        ValueError: it was made for another one; the message says in what they differ.
    """
    wanted = typed_config(RecogniserConfig, made_for, f"{adapter}: recogniser")
    if wanted == RecogniserConfig():
        return
    for field, value in dataclasses.asdict(wanted).items():
        if getattr(present, field) != value:
            what = "other tokens" if field == "vocabulary" else f"{field} {value}"
            here = "" if field == "vocabulary" else f", this one has {getattr(present, field)}"
            raise ValueError(
                f"{adapter} was made for a recogniser with {what}{here}; use the checkpoint that it was trained with, or "
                "train one for this checkpoint"
            )


def _add_to_encoder(original: Callable[..., Any]) -> Callable[..., Any]:
    """`ConformerEncoderAdapter.add_adapter`: ours goes to the encoder, not to its layers."""

    def wrapped(self: Any, name: str, cfg: Any) -> Any:
        if not is_ours(cfg):
            return original(self, name, cfg)
        from nemo.core.classes.mixins import AdapterModuleMixin

        if getattr(self, "reduction", None) or getattr(self, "reduction_position", None) is not None:
            raise ValueError(
                "a biasing adapter needs all encoder layers at one frame rate; this encoder reduces it on the way"
            )
        AdapterModuleMixin.add_adapter(self, name, cfg)
        _, short = self.resolve_adapter_module_name_(name)
        self.adapter_layer[short].attach(self, short)
        return None

    return wrapped


def _own(encoder: Any) -> list[str]:
    return list(encoder.adapter_layer) if hasattr(encoder, "adapter_layer") else []


def _is_available(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: bool(_own(self)) or original(self)


def _set_enabled(original: Callable[..., Any]) -> Callable[..., Any]:
    """`set_enabled_adapters`: NeMo asks every layer, and those without an adapter refuse."""

    def wrapped(self: Any, name: str | None = None, enabled: bool = True) -> None:
        short = None if name is None else self.resolve_adapter_module_name_(name)[1]
        with open_dict(self.adapter_cfg):
            for own in _own(self):
                if short in (None, own):
                    self.adapter_cfg[own]["enabled"] = enabled
        in_layers = any(layer.is_adapter_available() for layer in self.layers)
        if short not in _own(self) and (in_layers or not _own(self)):
            original(self, name=name, enabled=enabled)

    return wrapped


def _get_enabled(original: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any) -> list[str]:
        own = [name for name in _own(self) if self.adapter_cfg[name]["enabled"]]
        return sorted({*own, *original(self)})

    return wrapped


def _accepted_types(original: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any) -> set[type]:
        from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter

        return {*original(self), BiasingAdapter}

    return wrapped
