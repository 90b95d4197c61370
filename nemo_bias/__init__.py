"""Contextual biasing for NVIDIA NeMo: CTC recognisers that know the names of a list.

Importing this package, or just having it installed, adds the decoding strategy `biased_beam` to NeMo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nemo_bias.integration.hook import install

if TYPE_CHECKING:
    from nemo_bias.entities import Entity, EntityList, EntityListError, read_entities
    from nemo_bias.integration.api import set_entities

__all__ = ["Entity", "EntityList", "EntityListError", "read_entities", "set_entities"]
__version__ = "0.1.0"

install()


def __getattr__(name: str) -> Any:
    """Imports the public names when they are first used, since this module is imported with NeMo."""
    if name == "set_entities":
        from nemo_bias.integration.api import set_entities

        return set_entities
    if name in __all__:
        from nemo_bias import entities

        return getattr(entities, name)
    raise AttributeError(f"module 'nemo_bias' has no attribute {name!r}")
