"""Runs our registration right after NeMo's modules are imported, and costs nothing until then.

Standard library only: this module is imported while NeMo itself is being imported. What it runs in turn imports nothing that
only decoding with a list needs.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

from nemo_bias.integration.registration.patches import UnknownNeMoError, attempt

PROGRAMS = "nemo.collections.asr.parts.utils.transcribe_utils"  # what only NeMo's programs import
# NeMo module -> our module, whose `apply(module)` extends it.
EXTENSIONS = {
    "nemo.core.classes.common": "nemo_bias.integration.registration.targets",
    "nemo.collections.asr.modules.conformer_encoder": "nemo_bias.integration.encoder.conformer",
    "nemo.collections.asr.parts.mixins.asr_adapter_mixins": "nemo_bias.integration.encoder.conformer",
    "nemo.collections.asr.parts.submodules.ctc_decoding": "nemo_bias.integration.decoding.strategy",
    "nemo.core.classes.modelPT": "nemo_bias.integration.decoding.saving",
    **dict.fromkeys(
        (
            "nemo.collections.asr.parts.mixins.transcription",
            PROGRAMS,
            "nemo.collections.asr.models.ctc_models",
            "nemo.collections.asr.models.ctc_bpe_models",
            "nemo.collections.asr.models.rnnt_models",
            "nemo.collections.asr.models.rnnt_bpe_models",
            "nemo.collections.asr.models.hybrid_rnnt_ctc_models",
            "nemo.collections.asr.models.hybrid_rnnt_ctc_bpe_models",
        ),
        "nemo_bias.integration.decoding.model_methods",
    ),
}
COLLECTION = "nemo.collections.asr"  # which imports all of them but PROGRAMS


def install() -> None:
    """Extends the modules that NeMo has imported already, and the others when it imports them. Idempotent."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
        for name in (*EXTENSIONS, COLLECTION):
            module = sys.modules.get(name)
            if module is not None and not getattr(module.__spec__, "_initializing", False):
                _extend(module)


def _extend(module: ModuleType) -> None:
    if module.__name__ == COLLECTION:
        attempt(_check_all_extended)
    else:
        attempt(lambda: importlib.import_module(EXTENSIONS[module.__name__]).apply(module))


def _check_all_extended() -> None:
    missing = [name for name in EXTENSIONS if name not in sys.modules and name != PROGRAMS]
    if missing:
        raise UnknownNeMoError(f"{COLLECTION} does not import {missing[0]}")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds NeMo's modules as usual and adds our extension to their loaders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in EXTENSIONS and fullname != COLLECTION:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Loads a module by its own loader, then extends it."""

    def __init__(self, original: importlib.abc.Loader) -> None:
        self._original = original

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._original.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._original.exec_module(module)
        _extend(module)

    def __getattr__(self, name: str) -> object:
        return getattr(self._original, name)  # get_source and the like, for inspect and tracebacks
