"""What NeMo's models do with lists: the methods that are extended, from setting a decoding config to the decoded batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nemo_bias.integration.batch import attach, calling, connect, current_call
from nemo_bias.integration.decoding.config import STRATEGY, biased_beam_config
from nemo_bias.integration.decoding.effects import tell_effects
from nemo_bias.integration.decoding.lists import is_changing, owned_by
from nemo_bias.integration.decoding.manifest_entities import entities_of, has_field, made_of
from nemo_bias.integration.decoding.model_lists import (
    SAID,
    biased_decoder,
    change_lists,
    ctc_config,
    get_ready,
    in_use,
    lists_of,
    read_own_lists,
    situation_of,
)
from nemo_bias.integration.decoding.strategy import vocabulary_of
from nemo_bias.integration.encoder.adapter_config import ctc_decoding, ctc_head
from nemo_bias.integration.encoder.offering import offered
from nemo_bias.integration.registration.patches import UnknownNeMoError, wrap_method
from nemo_bias.integration.switch import switched_off


def apply(module: ModuleType) -> None:
    """Extends one of NeMo's modules in ``METHODS``.

    Raises:
        UnknownNeMoError: the module is not the one that this package knows.
    """
    class_name, wrappers = METHODS[module.__name__.rpartition(".")[2]]
    for name, wrapper in wrappers.items():
        wrap_method(getattr(module, class_name) if class_name else module, name, wrapper)


def _with_lists(original: Callable[..., Any]) -> Callable[..., Any]:
    """`change_decoding_strategy`: the new config's list is read and compiled before anything changes."""

    def wrapped(self: Any, decoding_cfg: Any = None, *args: Any, **kwargs: Any) -> Any:
        if not _is_for_ctc(self, *args, **kwargs):
            _check_transducer(self, decoding_cfg)
            result = original(self, decoding_cfg, *args, **kwargs)
            self.__dict__.pop(SAID, None)
            _tell_of_program(self, decoding_cfg)
            return result
        config = ctc_config(self) if decoding_cfg is None else decoding_cfg
        config = config if isinstance(config, DictConfig) else OmegaConf.create(config)
        lists = lists_of(self)
        self.__dict__.pop(SAID, None)
        if config.get("strategy") != STRATEGY or is_changing(lists):
            return original(self, decoding_cfg, *args, **kwargs)
        options = biased_beam_config(config.get(STRATEGY))
        given = None if options.entity_file or options.entities else lists.given
        change_lists(self, options, given, lambda: original(self, decoding_cfg, *args, **kwargs))
        return None

    return wrapped


def _is_for_ctc(model: Any, decoder_type: Any = None, *args: Any, **kwargs: Any) -> bool:
    """Whether `change_decoding_strategy` is about the CTC decoder; only that of hybrid models takes a `decoder_type`."""
    return decoder_type == "ctc" if hasattr(model, "ctc_decoding") else ctc_config(model) is not None


def _check_transducer(model: Any, decoding_cfg: Any) -> None:
    strategy = decoding_cfg.get("strategy") if hasattr(decoding_cfg, "get") else getattr(decoding_cfg, "strategy", None)
    if strategy == STRATEGY:
        remedy = "set decoder_type=ctc" if hasattr(model, "ctc_decoding") else "use a CTC or hybrid checkpoint"
        raise ValueError(f"strategy={STRATEGY} decodes with CTC, and this is for the transducer of the model; {remedy}")


def _tell_of_program(model: Any, decoding_cfg: Any) -> None:
    """Tells of a program's options for CTC, if a transducer is going to decode; in its config they stand beside ours."""
    program = decoding_cfg._get_root() if isinstance(decoding_cfg, DictConfig) else None
    node = program.get("ctc_decoding") if isinstance(program, DictConfig) else None
    if isinstance(node, DictConfig):
        tell_effects(model, situation_of(model, None, node))


def _with_new_vocabulary(original: Callable[..., Any]) -> Callable[..., Any]:
    """`change_vocabulary`: the list of before is compiled for the new tokens."""

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        lists = lists_of(self)
        with owned_by(lists):
            result = original(self, *args, **kwargs)
        lists.vocabulary = partial(vocabulary_of, ctc_decoding(self))
        lists.use_later(lists.config, lists.given_entities)
        return result

    return wrapped


# Transcribing


def _made_ready(original: Callable[..., Any]) -> Callable[..., Any]:
    """`transcribe_generator`: an adapter is loaded before NeMo freezes the encoder and remembers its parameters."""

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        get_ready(self)
        return original(self, *args, **kwargs)

    return wrapped


def _with_cuts(original: Callable[..., Any]) -> Callable[..., Any]:
    """`_transcribe_input_processing`: a manifest's entities are checked, and batches bring their cuts along."""

    def wrapped(self: Any, audio: Any, *args: Any, **kwargs: Any) -> Any:
        prepared = get_ready(self)
        first = audio[0] if isinstance(audio, list | tuple) and audio else audio
        if prepared is not None:
            is_manifest = isinstance(first, str) and first.endswith((".json", ".jsonl"))
            read_own_lists(self, prepared, first if is_manifest else None)
        loader = original(self, audio, *args, **kwargs)
        dataset: Any = getattr(loader, "dataset", None)
        if hasattr(dataset, "return_cuts") and prepared is not None and prepared.config.entity_field:
            dataset.return_cuts = True
        return loader

    return wrapped


def _with_checked_fields(original: Callable[..., Any]) -> Callable[..., Any]:
    """`_setup_dataloader_from_config`: the entities of a manifest are checked, or the user is told that NeMo drops them."""

    def wrapped(self: Any, config: Any) -> Any:
        from nemo.utils import logging

        path = (config or {}).get("manifest_filepath")
        decoder = biased_decoder(self)
        field = decoder.lists.config.entity_field if decoder is not None and not switched_off() else None
        if field and isinstance(path, str):
            if config.get("use_lhotse"):
                prepared = get_ready(self) if config.get("do_transcribe") else None  # otherwise it is for training
                if prepared is not None:
                    read_own_lists(self, prepared, path)
            elif has_field(path, field):
                logging.warning(
                    f"nemo_bias: {path} has the field {field!r}, but this dataset cannot carry it, so only the list of all "
                    "utterances is used. Set predict_ds.use_lhotse=true in transcribe_speech_parallel.py; with a model of "
                    "characters, whose transcribe has no such dataset, give each utterance its list by use_entities; or set "
                    "biased_beam.entity_field=null if the field is not meant as a list."
                )
        return original(self, config)

    return wrapped


def _with_own_entities(original: Callable[..., Any]) -> Callable[..., Any]:
    """`_transcribe_forward` and `predict_step`: the entities of the utterances are known to what is called within."""

    def wrapped(self: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        prepared = get_ready(self)
        cuts: Any = batch[4] if isinstance(batch, Sequence) and len(batch) > 4 else None
        field = prepared.config.entity_field if prepared is not None else None
        own = [entities_of(cut, field) for cut in cuts] if field and hasattr(cuts, "map") else None
        with calling(own) as call:
            result = original(self, batch, *args, **kwargs)
        if call.biased and not call.passed_on:
            raise UnknownNeMoError(
                f"{type(self).__name__} does not run its CTC decoder on the output of its encoder, as an adapter needs it"
            )
        return result

    return wrapped


def _biased(original: Callable[..., Any]) -> Callable[..., Any]:
    """`forward`: the adapters know the lists, and the lists travel with the result, log-probs or the encoder's output."""

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        forward = original.__get__(self, type(self))
        if self.training or in_use(self) is None:
            return forward(*args, **kwargs)
        prepared = get_ready(self)
        assert prepared is not None
        call = current_call()
        lists = prepared.batch(call.entities if call else None)
        connect(ctc_head(self))
        with offered(self, lists) as biased:
            if call is not None:
                call.biased = biased
            result = forward(*args, **kwargs)
        attach(result[0], lists=lists)
        return result

    return wrapped


def _remembering_the_manifest(original: Callable[..., Any]) -> Callable[..., Any]:
    """`prepare_audio_data` of transcribe_speech.py, which writes the lines of the manifest to another one, sorted."""

    def wrapped(cfg: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(cfg, *args, **kwargs)
        if isinstance(result, tuple) and isinstance(result[1], str) and cfg.get("dataset_manifest"):
            made_of(result[1], str(cfg.dataset_manifest))
        return result

    return wrapped


_CTC = {
    "change_decoding_strategy": _with_lists,
    "change_vocabulary": _with_new_vocabulary,
    "_setup_dataloader_from_config": _with_checked_fields,
}
_TRANSDUCER = {"change_decoding_strategy": _with_lists}
_BATCHES = {"_transcribe_forward": _with_own_entities, "predict_step": _with_own_entities}

# What is extended: module -> its class, and methods that this defines itself; or functions of the module.
METHODS: dict[str, tuple[str | None, dict[str, Callable[..., Any]]]] = {
    "transcribe_utils": (None, {"prepare_audio_data": _remembering_the_manifest}),
    "transcription": (
        "TranscriptionMixin",
        {"transcribe_generator": _made_ready, "_transcribe_input_processing": _with_cuts},
    ),
    "ctc_models": ("EncDecCTCModel", {"forward": _biased, **_CTC, **_BATCHES}),
    "ctc_bpe_models": ("EncDecCTCModelBPE", _CTC),
    "rnnt_models": ("EncDecRNNTModel", {"forward": _biased, **_TRANSDUCER}),
    "rnnt_bpe_models": ("EncDecRNNTBPEModel", _TRANSDUCER),
    "hybrid_rnnt_ctc_models": (
        "EncDecHybridRNNTCTCModel",
        {**_BATCHES, "change_decoding_strategy": _with_lists, "change_vocabulary": _with_new_vocabulary},
    ),
    "hybrid_rnnt_ctc_bpe_models": ("EncDecHybridRNNTCTCBPEModel", _CTC),
}
