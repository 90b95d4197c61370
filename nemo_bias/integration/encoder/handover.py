"""What the encoder side gives the decoders beside the log-probs of a batch.

That is the log-probs without the adapters' bias, so that decoders have both readings of an utterance, and what a phone head
heard. The encoder, which is nearly all of the work, runs once. Only the CTC decoder of NeMo, one linear layer, runs again,
on what the encoder's output was before the first adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from nemo_bias.integration.encoder.adapter_config import ctc_head
from nemo_bias.integration.registration.patches import UnknownNeMoError

if TYPE_CHECKING:
    from nemo_bias.integration.decoding.strategy import BiasedBeamInfer
    from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter


class HandOver(NamedTuple):
    """What belongs to a batch of log-probs [B, T, V].

    Attributes:
        unbiased: [B, T, V] log-probs before any adapter's bias; None if the adapters have changed no frame.
        phones: [B, T * sub_frames, phones + 1] log-probs of phones, the blank last; None if no phone head listened.
    """

    unbiased: Tensor | None = None
    phones: Tensor | None = None


NOTHING = HandOver()


@contextmanager
def handed_over(model: Any, adapters: Sequence[BiasingAdapter], decoders: Sequence[BiasedBeamInfer]) -> Iterator[None]:
    """Within this context, in which a model encodes one batch, its decoders get a `HandOver`.

    A frame without bias has the same log-probs, bit for bit, as with the adapters.

    Raises:
        UnknownNeMoError: the model's encoder and CTC decoder did not run as this package knows it.
    """
    encoded: list[Tensor] = []  # the encoder's output before the first adapter and after the last, [B, D, T]
    decoded = False

    def keep(encoder: Any, args: Any, output: Any) -> None:
        encoded.append(output[0])

    def decode(head: Any, args: Any, kwargs: Any, log_probs: Tensor) -> None:
        nonlocal decoded
        if encoded and kwargs.get("encoder_output") is encoded[-1]:  # not what InterCTC takes from a layer, nor our own call
            decoded = True
            plain, biased = encoded[-2:]
            unbiased = None
            if plain is not biased and not torch.equal(plain, biased):
                unbiased = head(encoder_output=plain).detach()  # without NeMo's mark of its axes, which decoders refuse
            heard = [adapter.found.phones for adapter in adapters if adapter.found is not None]
            phones = next((each.detach() for each in heard if each is not None), None)
            for decoder in decoders:
                decoder.handed_over = HandOver(unbiased, phones)

    hooks = [
        model.encoder.register_forward_hook(keep, prepend=True),  # before those of the adapters
        model.encoder.register_forward_hook(keep),
        ctc_head(model).register_forward_hook(decode, with_kwargs=True),
    ]
    try:
        yield
        if len(encoded) != 2 or not decoded:
            raise UnknownNeMoError(
                f"{type(model).__name__} does not run its encoder once a batch and its CTC decoder on the result"
            )
    except BaseException:
        forget(decoders)
        raise
    finally:
        for hook in hooks:
            hook.remove()


def forget(decoders: Sequence[BiasedBeamInfer]) -> None:
    """Leaves nothing for another batch that no decoder has taken for its own."""
    for decoder in decoders:
        decoder.handed_over = NOTHING
