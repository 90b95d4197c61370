"""Which phones are spoken: a CTC head on one layer of the frozen encoder.

It tells what was said independently of how it is spelled. The encoder has fewer frames than fast speech has phones (one in
80 ms in a FastConformer), so the head makes several outputs, *sub-frames*, of each. A convolution over neighbouring frames,
a nonlinearity and a linear layer are all it is. CTC over phones on an intermediate layer is after Toshniwal et al. 2017
(arXiv 1704.01631) and Dingliwal et al. 2022 (arXiv 2210.09510); sub-frames and sizes are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import kaldialign
import torch
from torch import Tensor, nn

from nemo_bias.adapter.config import PhoneHeadConfig
from nemo_bias.decoder.transcript import collapsed
from nemo_bias.pronunciation import PHONES
from nemo_bias.pronunciation.phones import Phones

BLANK = len(PHONES)  # the last output


class PhoneHead(nn.Module):
    """Gives log-probs of phones.

    Args:
        config: sizes.
        width: width of the encoder layer.

    Raises:
        ValueError: a size makes no sense.
    """

    def __init__(self, config: PhoneHeadConfig, width: int) -> None:
        super().__init__()
        if config.context_frames < 1 or config.context_frames % 2 == 0:
            raise ValueError(f"phones.context_frames is {config.context_frames}; it must be odd")
        for name in ("sub_frames", "hidden_width"):
            if getattr(config, name) < 1:
                raise ValueError(f"phones.{name} is {getattr(config, name)}; it must be at least 1")
        self.sub_frames = config.sub_frames
        self.hidden = nn.Conv1d(width, config.hidden_width, config.context_frames, padding=config.context_frames // 2)
        self.output = nn.Linear(config.hidden_width, config.sub_frames * (len(PHONES) + 1))

    def forward(self, layer: Tensor, lengths: Tensor) -> Tensor:
        """Log-probs [B, T * sub_frames, phones + 1] in nats, the blank last.

        Args:
            layer: output of the encoder layer, [B, T, width].
            lengths: [B] frames of each utterance; what follows does not count.
        """
        batch, frames, _ = layer.shape
        spoken = torch.arange(frames, device=layer.device) < lengths[:, None]
        hidden = self.hidden((layer * spoken[..., None]).transpose(1, 2)).transpose(1, 2)
        scores: Tensor = self.output(nn.functional.silu(hidden))
        return scores.reshape(batch, frames * self.sub_frames, len(PHONES) + 1).float().log_softmax(dim=-1)


def phone_loss(log_probs: Tensor, lengths: Tensor, labels: Sequence[Phones | None]) -> Tensor:
    """CTC loss a phone, in nats.

    Args:
        log_probs: [B, S, phones + 1].
        lengths: [B] sub-frames of each utterance.
        labels: the phones of each. An utterance without labels (None), or with more of them than CTC can write in its
            sub-frames, does not count.
    """
    sizes = torch.tensor([len(own or ()) for own in labels])
    needed = torch.tensor([len(own or ()) + sum(a == b for a, b in pairwise(own or ())) for own in labels])
    counted = torch.tensor([own is not None for own in labels]) & (needed <= lengths.cpu())
    targets = torch.tensor([phone for own in labels for phone in own or ()], dtype=torch.long)
    losses = nn.functional.ctc_loss(
        *(log_probs.transpose(0, 1), targets.to(log_probs.device), lengths, sizes.to(log_probs.device)),
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    return losses[counted.to(losses.device)].sum() / sizes[counted].sum().clamp(min=1)


def phone_errors(log_probs: Tensor, lengths: Tensor, labels: Sequence[Phones | None]) -> tuple[int, int]:
    """Substituted, deleted and inserted phones of greedy decoding, and how many phones the labels have.

    Args:
        log_probs: [B, S, phones + 1].
        lengths: [B] sub-frames of each utterance.
        labels: the phones of each; an utterance without (None) does not count.
    """
    errors = spoken = 0
    for best, length, own in zip(log_probs.argmax(dim=-1).cpu().numpy(), lengths.tolist(), labels, strict=True):
        if own is not None:
            errors += kaldialign.edit_distance(own, collapsed(best[:length], BLANK))["total"]
            spoken += len(own)
    return errors, spoken
