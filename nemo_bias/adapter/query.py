"""What each frame asks the entity list: a learned mixture of encoder layers, with some context."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LayerMix(nn.Module):
    """Makes the query of each frame: a learned weighted sum of layers, then convolutions over neighbouring frames.

    Args:
        layers: how many.
        width: of each.
        context_layers: number of convolutions.
        context_frames: frames that each of them sees, odd.
    """

    def __init__(self, layers: int, width: int, context_layers: int, context_frames: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.weights = nn.Parameter(torch.zeros(layers))
        self.context = nn.ModuleList(ContextConvolution(width, context_frames) for _ in range(context_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, layers: Sequence[Tensor], spoken: Tensor) -> Tensor:
        """Mixes layers [B, T, width] each; `spoken` [B, T] tells frames from padding."""
        weights = self.weights.softmax(dim=0)
        mixed = sum(
            # the weight goes into the norm's own scale and shift, which saves a pass over the frames
            nn.functional.layer_norm(layer, layer.shape[-1:], weight * norm.weight, weight * norm.bias)
            for weight, norm, layer in zip(weights, self.norms, layers, strict=True)
        )
        for convolution in self.context:
            mixed = convolution(mixed, spoken)
        return self.norm(mixed)  # type: ignore[no-any-return]


class ContextConvolution(nn.Module):
    """A gated depthwise convolution over frames, with a residual connection.

    Args:
        width: channels.
        frames: that each frame sees, centred; odd.
    """

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        if frames % 2 == 0 or frames < 1:
            raise ValueError(f"contextual.context_frames is {frames}; it must be odd, so that it can be centred")
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * width)
        self.convolution = nn.Conv1d(width, width, frames, padding=frames // 2, groups=width)
        self.merge = nn.Linear(width, width)

    def forward(self, x: Tensor, spoken: Tensor) -> Tensor:
        """Maps [B, T, width] to the same."""
        gated = nn.functional.glu(self.gate(self.norm(x)), dim=-1) * spoken[..., None]
        # As a picture of height 1 the frames keep their layout in memory, for which CPUs have a fast depthwise convolution.
        picture = gated.transpose(1, 2)[:, :, None]
        padding = (0, self.convolution.kernel_size[0] // 2)
        weight, groups = self.convolution.weight[:, :, None], self.convolution.groups
        context = nn.functional.conv2d(picture, weight, self.convolution.bias, padding=padding, groups=groups)
        return x + self.merge(nn.functional.silu(context[:, :, 0].transpose(1, 2)))  # type: ignore[no-any-return]
