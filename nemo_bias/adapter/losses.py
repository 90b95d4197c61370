"""Losses of a contextual adapter beside CTC on the biased output.

*Proposals*: entities that are in an utterance shall score higher than others of its list.

*Guided attention*: attention shall go where the entities are spoken, and to no entity elsewhere. CTC alone hardly teaches
that with little data, since most frames need no entity (Tang et al. 2024, arXiv 2401.08835).

*Spelling*: where an entity is spoken, the biased output shall spell it, token by token as aligned.

*Keeping*: where no entity is spoken, the recogniser's output shall stay as it is without bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nemo_bias.adapter.contextual_adapter import IMPOSSIBLE, Biasing
from nemo_bias.adapter.guide import NO_BIAS, aligned_targets
from nemo_bias.adapter.training_lists import TrainingList

SUBWORD_STAGE = 0.5  # weight of the third stage's loss beside the second's
BLANKS = 0.3  # weight of an entity's blanks beside its tokens in the spelling loss


class BatchTargets(NamedTuple):
    """What is spoken in each frame of a batch.

    Attributes:
        entity: [B, T] the entity of the list, or ``NO_BIAS``.
        position: [B, T] the position of the spoken token inside it.
        label: [B, T] the token or blank of the aligned transcript, where an entity is spoken.
        counted: [B, T] frames that count: not padding, nor of an utterance that is too short for its transcript.
    """

    entity: Tensor
    position: Tensor
    label: Tensor
    counted: Tensor

    def to(self, device: torch.device) -> BatchTargets:
        """The same on a device."""
        return BatchTargets(*(each.to(device) for each in self))


def batch_targets(
    log_probs: NDArray[np.float32],
    lengths: Sequence[int],
    transcripts: Sequence[Sequence[int]],
    drawn: TrainingList,
    blank: int,
) -> BatchTargets:
    """Where the entities of a batch are spoken.

    Args:
        log_probs: [B, T, V] of the recogniser without bias.
        lengths: [B] frames.
        transcripts: token ids of each utterance.
        drawn: the list of the batch.
        blank: id of the CTC blank.
    """
    shape = log_probs.shape[:2]
    entity, position = np.full(shape, NO_BIAS), np.zeros(shape, np.int64)
    label, counted = np.full(shape, blank), np.zeros(shape, np.bool_)
    for b, length in enumerate(lengths):
        targets = aligned_targets(log_probs[b, :length], transcripts[b], drawn.mentions[b], blank)
        if targets is not None:
            entity[b, :length], position[b, :length], label[b, :length] = targets
            counted[b, :length] = True
    return BatchTargets(*(torch.from_numpy(each) for each in (entity, position, label, counted)))


def proposal_loss(scores: Tensor, offered: Tensor, spoken: Tensor) -> Tensor:
    """Contrastive loss of the first stage: each spoken entity against all that are offered and not spoken, in nats.

    Args:
        scores: [B, M] of the first stage.
        offered: [B, M] which entities are in an utterance's list.
        spoken: [B, M] which of them are spoken.
    """
    others = scores.masked_fill(spoken | ~offered, IMPOSSIBLE).logsumexp(dim=1, keepdim=True)
    return _mean(nn.functional.softplus(others - scores), spoken)


def guided_attention_loss(found: Biasing, targets: BatchTargets, spoken_share: float) -> Tensor:
    """Cross-entropy of the second and third stage of attention.

    Args:
        found: what the adapter attended to, in training mode.
        targets: what it should have attended to.
        spoken_share: share of the frames with an entity in the loss.
    """
    entity, position, _, counted = targets
    if found.entity_log_probs is None:
        raise ValueError("the adapter was not in training mode")
    spoken = entity != NO_BIAS
    longest = (found.subword_log_probs.shape[3] - 1) // found.chosen.shape[1]
    second = -found.entity_log_probs.gather(2, (entity + 1)[..., None])[..., 0]
    place = (found.chosen[:, None] == entity[..., None]).to(torch.int64)  # [B, T, K]
    reached = place.sum(dim=-1) > 0
    index = torch.where(reached, 1 + place.argmax(dim=-1) * longest + position, 0)
    heads = found.subword_log_probs.shape[2]
    third = -found.subword_log_probs.gather(3, index[..., None, None].expand(-1, -1, heads, 1))[..., 0].mean(dim=-1)
    return _balanced(second, counted, spoken, spoken_share) + SUBWORD_STAGE * _balanced(
        third, counted & (reached | ~spoken), spoken, spoken_share
    )


def keeping_loss(unbiased: Tensor, biased: Tensor, targets: BatchTargets) -> Tensor:
    """How far the bias moves the output where no entity is spoken: mean Kullback-Leibler divergence, in nats a frame.

    Args:
        unbiased: [B, T, V] log-probs without bias.
        biased: [B, T, V] with it.
        targets: where entities are spoken.
    """
    divergence = (unbiased.exp() * (unbiased - biased)).sum(dim=-1)
    return _mean(divergence, targets.counted & (targets.entity == NO_BIAS))


def spelling_loss(biased: Tensor, targets: BatchTargets, blank: int) -> Tensor:
    """Cross-entropy of the biased output [B, T, V] and the aligned transcript where an entity is spoken.

    Frames with a token and frames with a blank are averaged apart, since there are many more of the latter.
    """
    wrong = -biased.gather(2, targets.label[..., None])[..., 0]
    spoken = targets.counted & (targets.entity != NO_BIAS)
    tokens = targets.label != blank
    return _mean(wrong, spoken & tokens) + BLANKS * _mean(wrong, spoken & ~tokens)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """The mean over some frames, 0 if there are none."""
    chosen = values[where]
    return chosen.mean() if len(chosen) else values.sum() * 0


def _balanced(loss: Tensor, counted: Tensor, spoken: Tensor, share: float) -> Tensor:
    """Mean over frames with an entity and mean over those without, weighted."""
    inside, outside = counted & spoken, counted & ~spoken
    own_share = share if inside.any() else 0.0
    return own_share * _mean(loss, inside) + (1 - own_share) * _mean(loss, outside)
