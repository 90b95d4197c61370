"""The decoding strategy `biased_beam` of NeMo's CTC models.

NeMo builds its decoders in `AbstractCTCDecoding.__init__`, from a fixed list of strategies. For our name that runs with
NeMo's greedy decoding, and the greedy decoder is then wrapped in a `BiasedBeamInfer`. Everything after the decoder,
such as joining tokens into text, timestamps and confidences, stays NeMo's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf, open_dict

from nemo_bias.decoder.vocabulary import WORD_START, Vocabulary, character_vocabulary
from nemo_bias.integration.batch import decoded_batch, decoding
from nemo_bias.integration.decoding.config import STRATEGY, BiasedBeamConfig, biased_beam_config
from nemo_bias.integration.decoding.lists import BatchLists, ModelLists, owner
from nemo_bias.integration.registration.patches import wrap_method
from nemo_bias.integration.switch import switched_off
from nemo_bias.messages import suggestion

if TYPE_CHECKING:
    from nemo_bias.decoder.entity_list import CompiledList
    from nemo_bias.decoder.transcript import Transcript
    from nemo_bias.integration.decoding.lists import PreparedLists

STOCK_STRATEGY = "greedy_batch"  # what writes everything that is no entity
REFUSED = "Decoding strategy must be one of"  # how NeMo's error on an unknown strategy begins


def apply(module: ModuleType) -> None:
    """Adds the strategy to NeMo's module `ctc_decoding`.

    Raises:
        UnknownNeMoError: the module is not the one that this package knows.
    """
    wrap_method(module.AbstractCTCDecoding, "__init__", _with_strategy)
    wrap_method(module.AbstractCTCDecoding, "ctc_decoder_predictions_tensor", _with_batch)


def _with_strategy(original: Callable[..., None]) -> Callable[..., None]:
    """`AbstractCTCDecoding.__init__`: knows one strategy more."""

    def __init__(self: Any, decoding_cfg: Any, blank_id: int, supported_punctuation: set[str] | None = None) -> None:  # noqa: N807
        config = decoding_cfg if isinstance(decoding_cfg, DictConfig) else OmegaConf.create(decoding_cfg)
        if config.get("strategy") != STRATEGY:
            try:
                original(self, decoding_cfg, blank_id=blank_id, supported_punctuation=supported_punctuation)
            except ValueError as error:
                raise _naming_ours(error, str(config.get("strategy"))) from error
            return
        options = biased_beam_config(config.get(STRATEGY))
        options.check()  # here, so that a wrong value fails now
        stock = config.copy()
        with open_dict(stock):
            stock.strategy = STOCK_STRATEGY
        original(self, stock, blank_id=blank_id, supported_punctuation=supported_punctuation)
        with open_dict(self.cfg):
            self.cfg.strategy = STRATEGY
        self.decoding = BiasedBeamInfer(self.decoding, owner(partial(vocabulary_of, self), options))

    return __init__


def _with_batch(original: Callable[..., Any]) -> Callable[..., Any]:
    """`ctc_decoder_predictions_tensor`: the decoder finds what belongs to the log-probs."""

    def wrapped(self: Any, decoder_outputs: Any, *args: Any, **kwargs: Any) -> Any:
        with decoding(decoder_outputs):
            return original(self, decoder_outputs, *args, **kwargs)

    return wrapped


def _naming_ours(error: ValueError, strategy: str) -> ValueError:
    """NeMo's error on an unknown strategy, with ours among those that it names."""
    message = str(error)
    if not message.startswith(REFUSED):
        return error
    return ValueError(f"{message.replace(']', f', {STRATEGY!r}]', 1)}{suggestion(strategy, [STRATEGY])}")


class Decoded(NamedTuple):
    """An utterance that was decoded with a list.

    Attributes:
        prepared: the options, and the list of all utterances.
        entities: the whole list; None: only a language model was used.
        log_probs: [T, V] natural logarithms.
        plain: [T, V] without an adapter's bias; None if there was none.
        phones: [T * sub_frames, phones + 1] of a phone head; None if none listened.
        transcript: the best.
    """

    prepared: PreparedLists
    entities: CompiledList | None
    log_probs: NDArray[np.float32]
    plain: NDArray[np.float32] | None
    phones: NDArray[np.float32] | None
    transcript: Transcript


_seen: ContextVar[list[Decoded] | None] = ContextVar("nemo_bias_seen", default=None)


@contextmanager
def seeing() -> Iterator[list[Decoded]]:
    """Within this context, what this thread decodes with a list is kept."""
    seen: list[Decoded] = []
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


class BiasedBeamInfer:
    """Takes the place of a NeMo CTC decoder: called with log-probs, it returns NeMo hypotheses.

    Everything is decoded by the NeMo decoder that it replaces, from log-probs without an adapter's bias, or by beam search
    if there is a language model; where entities are found, their labels then take the place of what stands there. (With
    method `adaptive`, utterances with a list are decoded by beam search.) A hypothesis holds the label of every frame, so
    NeMo makes text, timestamps and confidences of it as it does for greedy decoding. Those of utterances with a list or a
    language model have two more attributes: `entity_spans`, a tuple of `EntitySpan`, and `nbest`, a list of `Transcript`.

    Args:
        stock: the NeMo greedy decoder.
        lists: owner of the model's lists.
    """

    def __init__(self, stock: Any, lists: ModelLists) -> None:
        self.stock = stock
        self.lists = lists

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

    @property
    def config(self) -> BiasedBeamConfig:
        """Options of the strategy."""
        return self.lists.config

    def __call__(self, decoder_output: torch.Tensor, decoder_lengths: torch.Tensor | None = None) -> tuple[list[Any]]:
        """Decodes log-probs [B, T, V] (or labels [B, T], which are left to NeMo) of the given lengths [B]."""
        batch = decoded_batch(decoder_output)
        if decoder_output.ndim != 3 or switched_off():
            return self.stock(decoder_output=decoder_output, decoder_lengths=decoder_lengths)  # type: ignore[no-any-return]
        prepared, own = batch.lists or BatchLists(self.lists.current)
        without_list = prepared.config.method == "greedy"
        if without_list and not prepared.config.lm_file:
            return self.stock(decoder_output=decoder_output, decoder_lengths=decoder_lengths)  # type: ignore[no-any-return]
        unbiased, phones = None if without_list else batch.plain, batch.phones
        plain = decoder_output if unbiased is None else unbiased
        lists = BatchLists(prepared, own).of_utterances(len(decoder_output))
        with_list = [b for b, entities in enumerate(lists) if entities is not None or prepared.config.lm_file]
        (hypotheses,) = self.stock(decoder_output=plain, decoder_lengths=decoder_lengths)
        if with_list:
            log_probs = decoder_output[with_list].detach().float().cpu()
            plain_log_probs = log_probs if unbiased is None else plain[with_list].detach().float().cpu()
            lengths = (
                torch.full((len(with_list),), log_probs.shape[1])
                if decoder_lengths is None
                else decoder_lengths[with_list].detach().cpu()
            )
            heard = None if phones is None else phones[with_list].float().cpu().numpy()
            transcripts = prepared.search.decode(
                *(log_probs.numpy(), lengths.numpy(), [lists[b] for b in with_list], prepared.config.nbest),
                plain=None if unbiased is None else plain_log_probs.numpy(),
                labels=[torch.as_tensor(hypotheses[b].y_sequence).cpu().numpy() for b in with_list],
                phones=heard,
            )
            if (seen := _seen.get()) is not None:
                for k, b in enumerate(with_list):
                    frames = int(lengths[k])
                    sub_frames = 0 if heard is None else heard.shape[1] // log_probs.shape[1]
                    seen.append(
                        Decoded(
                            *(prepared, lists[b], log_probs[k, :frames].numpy()),
                            None if unbiased is None else plain_log_probs[k, :frames].numpy(),
                            None if heard is None else heard[k, : frames * sub_frames],
                            transcripts[k][0],
                        )
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
