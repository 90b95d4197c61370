"""Gives decoders the log-probs without the adapters' bias beside those with it: both readings of an utterance.

The encoder, which is nearly all of the work, runs once. Only the CTC decoder of NeMo, one linear layer, runs again, on what
the encoder's output was before the first adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nemo_bias.integration.encoder.adapter_config import ctc_head

if TYPE_CHECKING:
    from nemo_bias.integration.decoding.strategy import BiasedBeamInfer


@contextmanager
def unbiased_handed_over(model: Any, decoders: Sequence[BiasedBeamInfer]) -> Iterator[None]:
    """Within this context, in which a model encodes one batch, its decoders get `unbiased_log_probs` [B, T, V].

    They get none where the adapters have changed no frame. A frame without bias has the same log-probs, bit for bit, as
    with the adapters.

    Raises:
        RuntimeError: the model's encoder and CTC decoder did not run as this package knows it.
    """
    encoded: list[Tensor] = []  # the encoder's output before the first adapter and after the last, [B, D, T]
    decoded = False

    def keep(encoder: Any, args: Any, output: Any) -> None:
        encoded.append(output[0])

    def decode(head: Any, args: Any, kwargs: Any, log_probs: Tensor) -> None:
        nonlocal decoded
        if encoded and kwargs.get("encoder_output") is encoded[-1]:  # not what InterCTC takes from a layer, nor our own call
            decoded = True
            unbiased, biased = encoded[-2:]
            if not torch.equal(unbiased, biased):
                of_batch = head(encoder_output=unbiased).detach()  # without NeMo's mark of its axes, which decoders refuse
                for decoder in decoders:
                    decoder.unbiased_log_probs = of_batch

    hooks = [
        model.encoder.register_forward_hook(keep, prepend=True),  # before those of the adapters
        model.encoder.register_forward_hook(keep),
        ctc_head(model).register_forward_hook(decode, with_kwargs=True),
    ]
    try:
        yield
        if len(encoded) != 2 or not decoded:
            raise RuntimeError(
                f"nemo_bias does not know this NeMo: {type(model).__name__} does not run its encoder once a batch and its "
                "CTC decoder on the result; install nemo_toolkit 3.0, or set biased_beam.adapter=false"
            )
    except BaseException:
        forget_unbiased(decoders)
        raise
    finally:
        for hook in hooks:
            hook.remove()


def forget_unbiased(decoders: Sequence[BiasedBeamInfer]) -> None:
    """Leaves nothing for another batch that no decoder has taken for its own."""
    for decoder in decoders:
        decoder.unbiased_log_probs = None
