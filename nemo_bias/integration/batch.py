"""What belongs to a batch travels with its tensors, so that batches of several threads or models cannot be mixed up.

A model's wrapped `forward` attaches the lists to what it returns; an adapter attaches to the encoder's output what that was
before, and what its phone head heard; a hook on NeMo's CTC decoder, one linear layer, passes all of it on to the log-probs.
Whoever decodes these finds it there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from nemo_bias.integration.decoding.lists import BatchLists

_ATTRIBUTE = "_nemo_bias_batch"


class Batch(NamedTuple):
    """What belongs to a batch of the encoder's outputs [B, D, T] or log-probs [B, T, V].

    Attributes:
        lists: what to decode with; None: the list that the model has.
        plain: the same outputs or log-probs before any adapter's bias; None if the adapters have changed no frame.
        phones: [B, T * sub_frames, phones + 1] log-probs of phones, the blank last; None if no phone head listened.
    """

    lists: BatchLists | None = None
    plain: Tensor | None = None
    phones: Tensor | None = None


NOTHING = Batch()


def attached(tensor: Any) -> Batch:
    """What travels with a tensor."""
    batch: Batch = getattr(tensor, _ATTRIBUTE, NOTHING)
    return batch


def attach(tensor: Tensor, **parts: Any) -> None:
    """Adds parts of a `Batch` to what travels with a tensor."""
    setattr(tensor, _ATTRIBUTE, attached(tensor)._replace(**parts))


@dataclass
class Call:
    """One call of NeMo's `_transcribe_forward` or `predict_step`.

    Attributes:
        entities: [B] of each utterance, as its manifest has them, and where they stand; None if there are none.
        biased: whether an adapter was asked for something.
        passed_on: whether what it found has reached the log-probs.
    """

    entities: Sequence[tuple[list[Any], str]] | None = None
    biased: bool = False
    passed_on: bool = False


_call: ContextVar[Call | None] = ContextVar("nemo_bias_call", default=None)
_decoded: ContextVar[Batch] = ContextVar("nemo_bias_decoded", default=NOTHING)


def current_call() -> Call | None:
    """The call that this thread is in."""
    return _call.get()


@contextmanager
def calling(entities: Sequence[tuple[list[Any], str]] | None) -> Iterator[Call]:
    """Within this context, this thread is in a call with the given entities of utterances."""
    call = Call(entities)
    token = _call.set(call)
    try:
        yield call
    finally:
        _call.reset(token)


@contextmanager
def decoding(log_probs: Any) -> Iterator[None]:
    """Within this context, this thread decodes log-probs, of which NeMo may make another tensor first."""
    token = _decoded.set(attached(log_probs))
    try:
        yield
    finally:
        _decoded.reset(token)


def decoded_batch(log_probs: Tensor) -> Batch:
    """What travels with the log-probs that are being decoded."""
    batch = _decoded.get()
    return attached(log_probs) if batch is NOTHING else batch


def connect(head: nn.Module) -> None:
    """Lets a CTC decoder pass on what travels with the encoder's output."""
    if not any(hook is _pass_on for hook in head._forward_hooks.values()):
        head.register_forward_hook(_pass_on, with_kwargs=True)


def _pass_on(head: nn.Module, args: Any, kwargs: Any, log_probs: Tensor) -> None:
    encoded = kwargs.get("encoder_output")
    batch = attached(encoded)
    if batch is NOTHING:
        return
    plain = None
    if batch.plain is not None and not torch.equal(batch.plain, encoded):
        plain = head(encoder_output=batch.plain).detach()  # without NeMo's mark of its axes, which decoders refuse
    setattr(log_probs, _ATTRIBUTE, batch._replace(plain=plain))
    call = current_call()
    if call is not None:
        call.passed_on = True
