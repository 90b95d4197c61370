"""The decoding strategy `biased_beam` of NeMo's CTC models.

NeMo builds its decoders in `AbstractCTCDecoding.__init__`, from a fixed list of strategies. For our name that runs with
NeMo's greedy decoding, and the greedy decoder is then wrapped in a `BiasedBeamInfer`. Everything after the decoder,
such as joining tokens into text, timestamps and confidences, stays NeMo's own.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_bias.decoder.entity_list import CompiledList
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.transcript import Transcript
from nemo_bias.decoder.vocabulary import WORD_START, Vocabulary, character_vocabulary
from nemo_bias.entities import EntityList, parse_entities, read_entities
from nemo_bias.integration.decoding.config import STRATEGY, BiasedBeamConfig, biased_beam_config
from nemo_bias.integration.encoder.handover import NOTHING
from nemo_bias.integration.switch import switched_off
from nemo_bias.normalization import NormalizedList, normalize_entities

STOCK_STRATEGY = "greedy_batch"  # what writes everything that is no entity
SHOWN_NOTES = 20  # notes on an entity list that are logged one by one


def apply(module: ModuleType) -> None:
    """Adds the strategy to NeMo's module `ctc_decoding`.

    Raises:
        RuntimeError: the module is not the one that this package knows.
    """
    decoding_class = module.AbstractCTCDecoding
    original = decoding_class.__init__
    if getattr(original, "nemo_bias", False):
        return
    expected = ["self", "decoding_cfg", "blank_id", "supported_punctuation"]
    if list(inspect.signature(original).parameters) != expected:
        raise RuntimeError(
            "nemo_bias does not know this NeMo: AbstractCTCDecoding.__init__ has changed; install nemo_toolkit 3.0"
        )

    def __init__(self: Any, decoding_cfg: Any, blank_id: int, supported_punctuation: set[str] | None = None) -> None:  # noqa: N807
        config = decoding_cfg if isinstance(decoding_cfg, DictConfig) else OmegaConf.create(decoding_cfg)
        if config.get("strategy") != STRATEGY:
            original(self, decoding_cfg, blank_id=blank_id, supported_punctuation=supported_punctuation)
            return
        options = biased_beam_config(config.get(STRATEGY))
        stock = config.copy()
        with open_dict(stock):
            stock.strategy = STOCK_STRATEGY
        original(self, stock, blank_id=blank_id, supported_punctuation=supported_punctuation)
        with open_dict(self.cfg):
            self.cfg.strategy = STRATEGY
        self.decoding = BiasedBeamInfer(self, self.decoding, options)

    __init__.nemo_bias = True  # type: ignore[attr-defined]
    decoding_class.__init__ = __init__


class BiasedBeamInfer:
    """Takes the place of a NeMo CTC decoder: called with log-probs, it returns NeMo hypotheses.

    Everything is decoded by the NeMo decoder that it replaces, from log-probs without an adapter's bias, or by beam search
    if there is a language model; where entities are found, their labels then take the place of what stands there. A
    hypothesis holds the label of every frame, so NeMo makes text, timestamps and confidences of it as it does for greedy
    decoding. Those of utterances with a list or a language model have two more attributes: `entity_spans`, a tuple of
    `EntitySpan`, and `nbest`, a list of `Transcript`.

    Args:
        decoding: the NeMo decoding object that owns this decoder.
        stock: the NeMo greedy decoder.
        config: options of the strategy.
    """

    def __init__(self, decoding: Any, stock: Any, config: BiasedBeamConfig) -> None:
        self.stock = stock
        self.config = config
        self.utterance_entities: Sequence[Any] | None = (
            None  # entities of each utterance of the next batch, set by its reader
        )
        self.handed_over = NOTHING  # by the encoder side, for the next batch
        self._decoding = decoding
        self._search: BiasedBeamSearch | None = None
        self._global: CompiledList | None = None
        self._lists: dict[str, CompiledList | None] = {}
        config.check()  # here, so that a wrong value fails now

    def __getattr__(self, name: str) -> Any:
        if name == "stock":  # not yet set, while unpickling
            raise AttributeError(name)
        return getattr(self.stock, name)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in (
            "preserve_alignments",
            "compute_timestamps",
            "preserve_frame_confidence",
        ):  # NeMo sets these from outside
            setattr(self.stock, name, value)

    def prepare(self) -> tuple[BiasedBeamSearch, CompiledList | None]:
        """Reads and compiles the entity list, once; not earlier, since NeMo also builds decoders that it never uses."""
        if self._search is None:
            search = BiasedBeamSearch(vocabulary_of(self._decoding), self.config, self.config.threads or None)
            self._global = self._compile(search, self.configured_entities(), report=True)
            self._search = search
        return self._search, self._global

    def configured_entities(self) -> list[EntityList]:
        """The entity lists of the config, as they were read."""
        lists = []
        if self.config.entity_file:
            lists.append(read_entities(self.config.entity_file, self.config.entity_format))
        if self.config.entities:
            lists.append(parse_entities(self.config.entities, f"{STRATEGY}.entities"))
        return lists

    def normalized(self, lists: Sequence[EntityList]) -> NormalizedList:
        """The entities as this model can write them, with notes on what was changed."""
        entities = tuple(entity for each in lists for entity in each)
        notes = tuple(note for each in lists for note in each.notes)
        return normalize_entities(EntityList(entities, notes), vocabulary_of(self._decoding).alphabet)

    def _compile(self, search: BiasedBeamSearch, lists: Sequence[EntityList], report: bool) -> CompiledList | None:
        from nemo.utils import logging

        normalized = self.normalized(lists)
        names = [entity.text for entity in normalized.entities]
        compiled = search.compile(normalized.phrases, normalized.weights, names, normalized.entities)
        unwritten = [p for p, written in zip(compiled.phrases, compiled.written, strict=True) if not written]
        notes = [*normalized.unwritable, *(f'"{p}" cannot be split into tokens of this model' for p in unwritten)]
        if report:
            notes += normalized.notes
        for note in notes[:SHOWN_NOTES]:
            logging.warning(f"nemo_bias: {note}")
        if len(notes) > SHOWN_NOTES:
            logging.warning(f"nemo_bias: and {len(notes) - SHOWN_NOTES} more notes; scripts/check_entities.py prints all")
        return compiled if len(compiled) else None

    def own_list(self, entities: Any) -> CompiledList | None:
        """Compiles an utterance's own entities; None if there are none."""
        if not entities:
            return None
        search, _ = self.prepare()
        key = repr(entities)
        if key not in self._lists:
            if len(self._lists) >= 1000:
                self._lists.clear()
            self._lists[key] = self._compile(
                search, [parse_entities(entities, f"manifest field {self.config.entity_field}")], report=False
            )
        return self._lists[key]

    def _list_of(self, entities: Any) -> CompiledList | None:
        """The global list joined with an utterance's own."""
        own = self.own_list(entities)
        if own is None or self._global is None:
            return own or self._global
        return self._global.joined(own)

    def __call__(self, decoder_output: torch.Tensor, decoder_lengths: torch.Tensor | None = None) -> tuple[list[Any]]:
        """Decodes log-probs [B, T, V] (or labels [B, T], which are left to NeMo) of the given lengths [B]."""
        own, self.utterance_entities = self.utterance_entities, None
        (unbiased, phones), self.handed_over = self.handed_over, NOTHING
        without_list = self.config.method == "greedy"
        if decoder_output.ndim != 3 or switched_off() or (without_list and not self.config.lm_file):
            return self.stock(decoder_output=decoder_output, decoder_lengths=decoder_lengths)  # type: ignore[no-any-return]
        if without_list:
            unbiased = None
        plain = decoder_output if unbiased is None else unbiased
        search, _ = self.prepare()
        lists = [self._list_of(entities) for entities in own or [None] * len(decoder_output)]
        with_list = [b for b, entities in enumerate(lists) if entities is not None or self.config.lm_file]
        (hypotheses,) = self.stock(decoder_output=plain, decoder_lengths=decoder_lengths)
        if with_list:
            log_probs = decoder_output[with_list].detach().float().cpu()
            plain_log_probs = log_probs if unbiased is None else plain[with_list].detach().float().cpu()
            lengths = (
                torch.full((len(with_list),), log_probs.shape[1])
                if decoder_lengths is None
                else decoder_lengths[with_list].detach().cpu()
            )
            transcripts = search.decode(
                *(log_probs.numpy(), lengths.numpy(), [lists[b] for b in with_list], self.config.nbest),
                plain=None if unbiased is None else plain_log_probs.numpy(),
                labels=[torch.as_tensor(hypotheses[b].y_sequence).cpu().numpy() for b in with_list],
                phones=None if phones is None else phones[with_list].float().cpu().numpy(),
            )
            for b, own_log_probs, length, nbest in zip(with_list, plain_log_probs, lengths, transcripts, strict=True):
                self._fill(hypotheses[b], own_log_probs[: int(length)], nbest)
        return (hypotheses,)

    def _fill(self, hypothesis: Any, log_probs: torch.Tensor, nbest: list[Transcript]) -> None:
        """Puts the best transcript of log-probs [T, V] into NeMo's greedy hypothesis, which stays as it is if they agree."""
        hypothesis.entity_spans, hypothesis.nbest = nbest[0].spans, nbest
        path = torch.from_numpy(nbest[0].path.astype(np.int64))
        if torch.equal(path, torch.as_tensor(hypothesis.y_sequence).cpu()):
            return
        spoken = path != self.stock.blank_id
        hypothesis.y_sequence = path
        hypothesis.score = log_probs.gather(1, path[:, None])[:, 0][spoken].sum()
        if self.stock.preserve_alignments:
            hypothesis.alignments = (log_probs.clone(), path.clone())
        if self.stock.compute_timestamps:
            hypothesis.timestamp = torch.nonzero(spoken)[:, 0].tolist()


def vocabulary_of(decoding: Any) -> Vocabulary:
    """The tokens of a NeMo CTC decoding object, by subword tokenizer or characters."""
    tokenizer = getattr(decoding, "tokenizer", None)
    if tokenizer is None:
        return character_vocabulary(list(decoding.vocabulary), decoding.blank_id)
    tokens = tokenizer.ids_to_tokens(list(range(decoding.blank_id)))
    if decoding.tokenizer_type == "wpe":  # WordPiece marks what continues a word
        tokens = [t[2:] if t.startswith("##") else WORD_START + t for t in tokens]
    special = re.compile(rf"{WORD_START}?(<.*>|\[.*\]|⁇)")
    return Vocabulary(tuple("" if special.fullmatch(t) else t for t in tokens), decoding.blank_id)
