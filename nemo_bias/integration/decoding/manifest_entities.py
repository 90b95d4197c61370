"""Carries the entities of each utterance from a manifest to the adapter and the decoder.

NeMo's Lhotse dataset keeps unknown manifest fields on its cuts and can return the cuts with a batch. We ask it to, and hand
the entities over just before the model encodes and decodes the batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from nemo_bias.integration.decoding.strategy import BiasedBeamInfer
from nemo_bias.integration.encoder.handover import forget
from nemo_bias.integration.encoder.offering import entities_offered, load_configured_adapter
from nemo_bias.integration.registration.patches import wrap_method
from nemo_bias.integration.switch import switched_off


def apply(module: ModuleType) -> None:
    """Extends one of NeMo's modules in ``METHODS``.

    Raises:
        UnknownNeMoError: the module is not the one that this package knows.
    """
    class_name, wrappers = METHODS[module.__name__.rpartition(".")[2]]
    for method, wrapper in wrappers.items():
        wrap_method(getattr(module, class_name), method, wrapper)


def biased_decoders(model: Any) -> list[BiasedBeamInfer]:
    """The decoders of a model that are ours: of its CTC head, and of the metric that decodes in `predict_step`."""
    owners = [getattr(model, name, None) for name in ("decoding", "ctc_decoding")]
    owners += [getattr(getattr(model, name, None), "decoding", None) for name in ("wer", "ctc_wer")]
    decoders = {id(d): d for d in (getattr(owner, "decoding", None) for owner in owners) if isinstance(d, BiasedBeamInfer)}
    return [d for d in decoders.values() if not switched_off()]


def _with_cuts(original: Callable[..., Any]) -> Callable[..., Any]:
    """`_transcribe_input_processing`: batches of biased models bring their cuts along."""

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        loader = original(self, *args, **kwargs)
        dataset = getattr(loader, "dataset", None)
        if (
            dataset is not None
            and hasattr(dataset, "return_cuts")
            and any(d.config.entity_field for d in biased_decoders(self))
        ):
            dataset.return_cuts = True
        return loader

    return wrapped


def _with_entities(original: Callable[..., Any]) -> Callable[..., Any]:
    """`_transcribe_forward` and `predict_step`: the entities of the batch go to the adapter, and wait in the decoder."""

    def wrapped(self: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        cuts = batch[4] if isinstance(batch, Sequence) and len(batch) > 4 else None
        decodes = getattr(self, "cur_decoder", "ctc") == "ctc"  # a hybrid model may be switched to its transducer
        decoders = biased_decoders(self) if decodes else []
        for decoder in decoders:
            if cuts is not None and hasattr(cuts, "map") and decoder.config.entity_field:
                decoder.utterance_entities = [_entities_of(cut, decoder.config.entity_field) for cut in cuts]
        load_configured_adapter(self, decoders)
        with entities_offered(self, decoders):
            return original(self, batch, *args, **kwargs)

    return wrapped


def _finished(original: Callable[..., Any]) -> Callable[..., Any]:
    """`_transcribe_output_processing` and `predict_step`: a batch is decoded, and nothing of it is left for another."""

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        finally:
            forget(biased_decoders(self))

    return wrapped


def _with_entities_until_finished(original: Callable[..., Any]) -> Callable[..., Any]:
    return _finished(_with_entities(original))


def _with_adapter(original: Callable[..., Any]) -> Callable[..., Any]:
    """`transcribe_generator`: the adapter is loaded before NeMo freezes the encoder and remembers its parameters."""

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        load_configured_adapter(self, biased_decoders(self))
        return original(self, *args, **kwargs)

    return wrapped


def _entities_of(cut: Any, field: str) -> list[Any]:
    """The manifest field of a cut: a list, or one string for a list of one."""
    custom = getattr(getattr(cut, "first_non_padding_cut", cut), "custom", None) or {}
    entities = custom.get(field)
    if entities is None:
        return []
    if isinstance(entities, str):
        return [entities]
    if not isinstance(entities, list):
        raise ValueError(f"manifest field {field!r} of {cut.id} is {entities!r}; expected a list of entities")
    return entities


def _with_field_check(original: Callable[..., Any]) -> Callable[..., Any]:
    """`_setup_dataloader_from_config`: NeMo's older datasets drop the field, which must not go unnoticed."""

    def wrapped(self: Any, config: Any) -> Any:
        from nemo.utils import logging

        fields = [d.config.entity_field for d in biased_decoders(self) if d.config.entity_field]
        path = (config or {}).get("manifest_filepath")
        if fields and isinstance(path, str) and not config.get("use_lhotse"):
            try:
                with open(path, encoding="utf-8") as lines:
                    first = json.loads(next(lines, "{}"))
            except (OSError, ValueError):
                first = {}  # NeMo will say what is wrong with the manifest
            if fields[0] in first:
                logging.warning(
                    f"nemo_bias: {path} has the field {fields[0]!r}, but this dataset cannot carry it, so only the global "
                    "list is used. Set use_lhotse=true (predict_ds.use_lhotse=true in transcribe_speech_parallel.py), or "
                    "biased_beam.entity_field=null if the field is not meant as a list."
                )
        return original(self, config)

    return wrapped


# What is extended: module -> class, methods that it defines itself.
METHODS: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {
    "transcription": (
        "TranscriptionMixin",
        {"transcribe_generator": _with_adapter, "_transcribe_input_processing": _with_cuts},
    ),
    "ctc_models": (
        "EncDecCTCModel",
        {
            "_transcribe_forward": _with_entities,
            "_transcribe_output_processing": _finished,
            "predict_step": _with_entities_until_finished,
            "_setup_dataloader_from_config": _with_field_check,
        },
    ),
    "ctc_bpe_models": ("EncDecCTCModelBPE", {"_setup_dataloader_from_config": _with_field_check}),
    "hybrid_rnnt_ctc_models": (
        "EncDecHybridRNNTCTCModel",
        {
            "_transcribe_forward": _with_entities,
            "_transcribe_output_processing": _finished,
            "predict_step": _with_entities_until_finished,
        },
    ),
    "hybrid_rnnt_ctc_bpe_models": ("EncDecHybridRNNTCTCBPEModel", {"_setup_dataloader_from_config": _with_field_check}),
}
