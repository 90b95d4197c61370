"""Typed configs: dataclasses whose fields have a default and a help text, read from YAML nodes with clear errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import field
from types import NoneType
from typing import Any, TypeVar, cast, get_args, get_type_hints

from nemo_bias.messages import suggestion

Config = TypeVar("Config")


def option(default: Any, text: str) -> Any:
    """A field with a default and a help text; a type as the default stands for a nested config."""
    if isinstance(default, type):
        return field(default_factory=default, metadata={"help": text})
    return field(
        default_factory=(lambda: default.copy()) if isinstance(default, (dict, list)) else (lambda: default),
        metadata={"help": text},
    )


def typed_config(kind: type[Config], node: Any, name: str) -> Config:
    """Reads a config node.

    Args:
        kind: a dataclass whose fields are options.
        node: mapping (OmegaConf or plain), an instance of `kind`, or None for all defaults.
        name: where the node stands, for messages.

    Raises:
        ValueError: a key is unknown, or a value has the wrong type; the message names the field and the fix.
    """
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(node, kind):
        return node
    if isinstance(node, DictConfig):
        node = OmegaConf.to_container(node, resolve=True)
    if node is not None and not isinstance(node, Mapping):
        raise ValueError(f"{name}: {node!r} is no mapping of options")
    types = get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(cast(Any, kind))]
    config = OmegaConf.structured(kind)
    for key, value in (node or {}).items():
        if key not in known:
            hint = suggestion(str(key), known) or f"; known are {', '.join(known)}"
            raise ValueError(f"{name}.{key}: unknown option{hint}")
        kind_of_field, optional = _without_none(types[key])
        nested = dataclasses.is_dataclass(kind_of_field) and not (optional and value is None)
        try:
            config[key] = typed_config(kind_of_field, value, f"{name}.{key}") if nested else value
        except (OmegaConfBaseException, TypeError) as error:
            raise ValueError(f"{name}.{key}: {value!r} does not fit ({str(error).splitlines()[0]})") from error
    return cast(Config, OmegaConf.to_object(config))


def _without_none(kind: Any) -> tuple[Any, bool]:
    """X and whether None is allowed, for the type X or Optional[X] of a field."""
    kinds = get_args(kind)
    if NoneType not in kinds:
        return kind, False
    return next(each for each in kinds if each is not NoneType), True
