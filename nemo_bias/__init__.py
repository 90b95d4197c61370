"""Contextual biasing for NVIDIA NeMo: CTC recognisers that know the names of a list.

Importing this package, or just having it installed, adds the decoding strategy `biased_beam` to NeMo.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nemo_bias.integration.registration.hook import install

if TYPE_CHECKING:
    from nemo_bias.entities import Entity, EntityList, EntityListError, read_entities
    from nemo_bias.integration.decoding.api import (
        compile_entities,
        remove_adapter,
        remove_entities,
        set_entities,
        use_entities,
    )
    from nemo_bias.integration.decoding.explaining import explain
    from nemo_bias.integration.encoder.adapter_config import BiasingAdapterConfig
    from nemo_bias.integration.encoder.adapter_file import load_adapter
    from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter

__all__ = [
    "BiasingAdapter",
    "BiasingAdapterConfig",
    "Entity",
    "EntityList",
    "EntityListError",
    "compile_entities",
    "explain",
    "load_adapter",
    "read_entities",
    "remove_adapter",
    "remove_entities",
    "set_entities",
    "use_entities",
]
__version__ = "0.1.0"

install()

_HOMES = {
    "BiasingAdapter": "integration.encoder.biasing_adapter",
    "BiasingAdapterConfig": "integration.encoder.adapter_config",
    "explain": "integration.decoding.explaining",
    "load_adapter": "integration.encoder.adapter_file",
    **dict.fromkeys(
        ("compile_entities", "remove_adapter", "remove_entities", "set_entities", "use_entities"), "integration.decoding.api"
    ),
}


def __getattr__(name: str) -> Any:
    """Imports the public names when they are first used, since this module is imported with NeMo."""
    if name in __all__:
        return getattr(importlib.import_module(f"nemo_bias.{_HOMES.get(name, 'entities')}"), name)
    raise AttributeError(f"module 'nemo_bias' has no attribute {name!r}")
