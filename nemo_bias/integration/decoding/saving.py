"""What NeMo saves of a model that has a list. It is loaded with NeMo's core, and loads only what changes NeMo."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from nemo_bias.integration.registration.patches import wrap_method

OWNER = "_nemo_bias_lists"  # attribute of a model: its ModelLists


def apply(module: ModuleType) -> None:
    """Extends NeMo's module `modelPT`.

    Raises:
        UnknownNeMoError: the module is not the one that this package knows.
    """
    wrap_method(module.ModelPT, "save_to", _without_lists)


def _without_lists(original: Callable[..., Any]) -> Callable[..., Any]:
    """`save_to`: a list that is not in the config stays behind."""

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        from nemo.utils import logging

        lists = self.__dict__.get(OWNER)
        if lists is not None and lists.given is not None:
            logging.warning(
                "nemo_bias: the entity list that set_entities was given is not saved with the model; call it again after "
                "restoring, or give it the path of a list, which is saved"
            )
        return original(self, *args, **kwargs)

    return wrapped
