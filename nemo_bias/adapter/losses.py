"""Losses of a contextual adapter beside CTC on the biased output.

*Guided attention*: attention shall go where the entities are spoken, and to no entity elsewhere. CTC alone hardly teaches
that with little data, since most frames need no entity (Tang et al. 2024, arXiv 2401.08835).

*Keeping*: where no entity is spoken, the recogniser's output shall stay as it is without bias.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nemo_bias.adapter.contextual_adapter import Biasing
from nemo_bias.adapter.guide import NO_BIAS, attention_targets
from nemo_bias.adapter.training_lists import TrainingList

SUBWORD_STAGE = 0.5  # weight of the second stage's loss beside the first's


def batch_targets(
    log_probs: NDArray[np.float32],
    lengths: Sequence[int],
    transcripts: Sequence[Sequence[int]],
    drawn: TrainingList,
    blank: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Where the entities of a batch are spoken.

    Args:
        log_probs: [B, T, V] of the recogniser without bias.
        lengths: [B] frames.
        transcripts: token ids of each utterance.
        drawn: the list of the batch.
        blank: id of the CTC blank.

    Returns:
        [B, T] the entity spoken in a frame, or ``NO_BIAS``; [B, T] the position of the spoken token in it; [B, T] which
        frames count: not padding, and not those of an utterance too short for its transcript.
    """
    shape = log_probs.shape[:2]
    entity, position, counted = np.full(shape, NO_BIAS), np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
    for b, length in enumerate(lengths):
        targets = attention_targets(log_probs[b, :length], transcripts[b], drawn.mentions[b], blank)
        if targets is not None:
            entity[b, :length], position[b, :length] = targets
            counted[b, :length] = True
    return torch.from_numpy(entity), torch.from_numpy(position), torch.from_numpy(counted)


def guided_attention_loss(found: Biasing, entity: Tensor, position: Tensor, counted: Tensor, spoken_share: float) -> Tensor:
    """Cross-entropy of both stages of attention.

    Args:
        found: what the adapter attended to, in training mode.
        entity: [B, T] the entity spoken in a frame, or ``NO_BIAS``.
        position: [B, T] the position of the spoken token in it.
        counted: [B, T] frames that count.
        spoken_share: share of the frames with an entity in the loss.
    """
    if found.entity_log_probs is None:
        raise ValueError("the adapter was not in training mode")
    spoken = entity != NO_BIAS
    longest = (found.subword_log_probs.shape[3] - 1) // found.chosen.shape[1]
    first = -found.entity_log_probs.gather(2, (entity + 1)[..., None])[..., 0]
    place = (found.chosen[:, None] == entity[..., None]).to(torch.int64)  # [B, T, K]
    reached = place.sum(dim=-1) > 0
    index = torch.where(reached, 1 + place.argmax(dim=-1) * longest + position, 0)
    heads = found.subword_log_probs.shape[2]
    second = -found.subword_log_probs.gather(3, index[..., None, None].expand(-1, -1, heads, 1))[..., 0].mean(dim=-1)
    return _balanced(first, counted, spoken, spoken_share) + SUBWORD_STAGE * _balanced(
        second, counted & (reached | ~spoken), spoken, spoken_share
    )


def keeping_loss(unbiased: Tensor, biased: Tensor, entity: Tensor, counted: Tensor) -> Tensor:
    """How far the bias moves the output where no entity is spoken: mean Kullback-Leibler divergence, in nats a frame.

    Args:
        unbiased: [B, T, V] log-probs without bias.
        biased: [B, T, V] with it.
        entity: [B, T] the entity spoken in a frame, or ``NO_BIAS``.
        counted: [B, T] frames that count.
    """
    divergence = (unbiased.exp() * (unbiased - biased)).sum(dim=-1)
    frames = counted & (entity == NO_BIAS)
    return divergence[frames].mean() if frames.any() else divergence.sum() * 0


def _balanced(loss: Tensor, counted: Tensor, spoken: Tensor, share: float) -> Tensor:
    """Mean over frames with an entity and mean over those without, weighted; 0 over no frames at all."""
    inside, outside = loss[counted & spoken], loss[counted & ~spoken]
    total = loss.sum() * 0
    if len(inside):
        total = total + share * inside.mean()
    if len(outside):
        total = total + (1 - share if len(inside) else 1.0) * outside.mean()
    return total
