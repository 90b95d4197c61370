"""Encoder biasing: attention from the audio to the entities of a list, whose result is added to the encoder's output.

Each frame makes a query from a learned weighted sum of encoder layers, so it sees what lies between the sound and the token
that CTC chose for the frame alone. Attention has two stages:

1. *Which entity, if any?* One key an entity, and one for the no-bias entry. This is cheap, so it goes over the whole list.
2. *Which of its subwords?* Attention over all subwords of the entities that did best in the first stage anywhere in the
   utterance, and the no-bias entry again. A subword's score in a frame is not its own match alone, but that of the whole
   entity, aligned to the frames around so that this subword falls on this frame (`whole_entity_scores`). So a frame
   attends to the "son" of "simpson" only where "simp" was heard just before. The first stage's log-probability is added.

The no-bias entry has no value: a frame that attends to it alone is left as it was. The last projection starts at zero, so a
new adapter changes nothing.

After Sathyendra et al. 2022 (arXiv 2205.13660), who attend to one vector an entity, and Dingliwal et al. 2022
(arXiv 2210.09510), who take the query from several layers of a CTC encoder. Choosing entities first and attending to their
subwords then is the idea of Wu et al. 2024 (arXiv 2404.10180). The alignment, sizes and formulas are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nemo_bias.adapter.config import ContextualAdapterConfig
from nemo_bias.adapter.entity_encoder import EncodedEntities, EntityEncoder, TokenLists

IMPOSSIBLE = -1e4  # a score that softmax turns into 0, in half precision too
UNLIKELY = -30.0  # the match of a subword with a frame beyond the utterance's end
NEGLIGIBLE = -80.0  # the logarithm of attention that counts as none; smaller numbers would only be slow
PIECE = 1024  # entities that are scored at a time
LEAST = -50.0  # of a whole entity's score: keeps sums of unlikely matches in a range that half precision holds


class Biasing(NamedTuple):
    """What the adapter found in a batch; H heads, K chosen entities, the longest of them with S subwords.

    Attributes:
        bias: [B, T, output_width] to be added to the encoder's output.
        entity_log_probs: [B, T, 1 + M] first stage: no bias, then each entity of the list, in nats; only in training.
        chosen: [B, K] the entities of the second stage, by index in the list, best first.
        subword_log_probs: [B, T, H, 1 + K * S] second stage: no bias, then the subwords of the chosen entities, in nats.
    """

    bias: Tensor
    entity_log_probs: Tensor | None
    chosen: Tensor
    subword_log_probs: Tensor

    def entity_probabilities(self) -> Tensor:
        """[B, T, K] attention of the second stage to each chosen entity, summed over its subwords, mean over heads."""
        probabilities = self.subword_log_probs[..., 1:].exp().mean(dim=2)
        batch, frames, _ = probabilities.shape
        return probabilities.reshape(batch, frames, self.chosen.shape[1], -1).sum(dim=3)

    def entity_log_odds(self, utterance: int) -> Tensor:
        """[T, K] the same of one utterance as log-odds, in nats, between -14 and 14."""
        one = slice(utterance, utterance + 1)
        single = self._replace(chosen=self.chosen[one], subword_log_probs=self.subword_log_probs[one])
        return torch.logit(single.entity_probabilities()[0].float(), eps=1e-6)


class ContextualAdapter(nn.Module):
    """Finds the entities of a list in an utterance and biases the encoder's output towards their subwords.

    Args:
        config: sizes.
        layers: number of encoder layers that the query is made of.
        width: width of their outputs.
        output_width: width of the encoder's output.
        vocabulary_size: number of tokens of the recogniser, without the blank.
    """

    def __init__(
        self, config: ContextualAdapterConfig, layers: int, width: int, output_width: int, vocabulary_size: int
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = EntityEncoder(config, vocabulary_size)
        self.query = LayerMix(layers, width, config.context_layers, config.context_frames)
        self.entity_query = nn.Linear(width, config.entity_width)
        attention_width = config.heads * config.head_width
        self.subword_query = nn.Linear(width, attention_width)
        if config.no_bias:
            self.entity_no_bias = nn.Parameter(0.1 * torch.randn(config.entity_width))
            self.subword_no_bias = nn.Parameter(0.1 * torch.randn(config.heads, config.head_width))
        self.entity_weight = nn.Parameter(torch.ones(config.heads))  # of the first stage's score, for each head
        self.output = nn.Linear(attention_width, output_width, bias=False)
        nn.init.zeros_(self.output.weight)

    def encode(self, lists: TokenLists) -> EncodedEntities:
        """Encodes a list, which is needed once for all utterances that use it."""
        return self.encoder(lists)  # type: ignore[no-any-return]

    def forward(
        self,
        layers: Sequence[Tensor],
        lengths: Tensor,
        entities: EncodedEntities,
        offered: Tensor | None = None,
        required: Tensor | None = None,
        most_entities: int | None = None,
    ) -> Biasing:
        """Attends to a list.

        Args:
            layers: outputs of the encoder layers, [B, T, width] each.
            lengths: [B] frames of each utterance.
            entities: of all lists of the batch, M in all.
            offered: [B, M] which of them are in an utterance's list; all by default.
            required: [B, M] which of them enter the second stage in any case.
            most_entities: of the second stage; by default the config's.
        """
        spoken = torch.arange(layers[0].shape[1], device=lengths.device) < lengths[:, None]
        query = self.query(layers, spoken)
        queries = self.entity_query(query) / math.sqrt(self.config.entity_width)
        nothing = queries @ self.entity_no_bias if self.config.no_bias else torch.zeros_like(queries[..., 0])
        chosen = self._choose(queries, nothing, spoken, entities, offered, required, most_entities)
        prior = torch.einsum("btd,bkd->btk", queries, entities.keys[chosen]) - nothing[..., None]
        log_probs, found = self._subword_attention(query, prior, entities, chosen, offered, spoken)
        entity_log_probs = self._entity_log_probs(queries, nothing, entities, offered) if self.training else None
        return Biasing(self.output(found), entity_log_probs, chosen, log_probs)

    def _entity_log_probs(
        self, queries: Tensor, nothing: Tensor, entities: EncodedEntities, offered: Tensor | None
    ) -> Tensor:
        scores = queries @ entities.keys.T
        if offered is not None:
            scores = scores.masked_fill(~offered[:, None], IMPOSSIBLE)
        none = nothing if self.config.no_bias else torch.full_like(nothing, IMPOSSIBLE)
        return torch.cat([none[..., None], scores], dim=-1).log_softmax(dim=-1)

    @torch.no_grad()
    def _choose(
        self,
        queries: Tensor,
        nothing: Tensor,
        spoken: Tensor,
        entities: EncodedEntities,
        offered: Tensor | None,
        required: Tensor | None,
        most_entities: int | None,
    ) -> Tensor:
        """The entities that stand out most from the no-bias entry in any frame.

        Over a long list this is most of the work. Hence no-bias is part of the product, and the list comes in pieces whose
        scores stay in the processor's cache.
        """
        asked = torch.cat([queries, nothing[..., None]], dim=-1).masked_fill(~spoken[..., None], 0)
        asked[..., -1].masked_fill_(~spoken, -IMPOSSIBLE)
        keys = nn.functional.pad(entities.keys, (0, 1), value=-1.0)
        best = torch.cat([(asked @ piece.T).amax(dim=1) for piece in torch.split(keys, PIECE)], dim=1)
        if offered is not None:
            best = best.masked_fill(~offered, 2 * IMPOSSIBLE)
        if required is not None:
            best = best.masked_fill(required, -IMPOSSIBLE)
        most = most_entities or self.config.most_entities
        return best.topk(min(most, best.shape[1]), dim=1).indices

    def _subword_attention(
        self,
        query: Tensor,
        prior: Tensor,
        entities: EncodedEntities,
        chosen: Tensor,
        offered: Tensor | None,
        spoken: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Log-probs [B, T, H, 1 + K * S] and what they fetch [B, T, H * head_width]; `prior` [B, T, K]: the first stage."""
        batch, frames, _ = query.shape
        heads, width = self.config.heads, self.config.head_width
        lengths = entities.lengths[chosen]
        longest = int(lengths.max())
        count = chosen.shape[1] * longest
        keys = entities.subword_keys[:, :longest][chosen].view(batch, count, heads, width)
        values = entities.subword_values[:, :longest][chosen].view(batch, count, heads, width)
        present = torch.arange(longest, device=chosen.device) < lengths[..., None]
        if offered is not None:
            present &= offered.gather(1, chosen)[..., None]
        queries = self.subword_query(query).view(batch, frames, heads, width) / math.sqrt(width)
        matches = torch.einsum("bthd,bjhd->bhjt", queries, keys).view(batch, heads, -1, longest, frames)
        if not spoken.all():
            matches = matches.masked_fill(~spoken[:, None, None, None], UNLIKELY)
        scores = whole_entity_scores(matches, lengths[:, None], self.config.longest_gap)
        scores = scores + (self.entity_weight[:, None, None] * prior.transpose(1, 2)[:, None])[:, :, :, None]
        scores = scores.masked_fill(~present[:, None, ..., None], IMPOSSIBLE).view(batch, heads, count, frames)
        if self.config.no_bias:
            nothing = torch.einsum("bthd,hd->bht", queries, self.subword_no_bias)
        else:
            nothing = torch.full_like(scores[:, :, 0], IMPOSSIBLE)
        log_probs = torch.cat([nothing[:, :, None], scores], dim=2).log_softmax(dim=2)
        attention = log_probs.clamp(min=NEGLIGIBLE).exp()[:, :, 1:]
        found = torch.einsum("bhjt,bjhd->bthd", attention, values)
        return log_probs.permute(0, 3, 1, 2), found.reshape(batch, frames, heads * width)


def whole_entity_scores(matches: Tensor, lengths: Tensor, longest_gap: int) -> Tensor:
    """For each subword and frame: how well the whole entity fits if this subword is spoken in this frame.

    That is the best sum of matches over all frames t_1 < t_2 < ... of the entity's subwords, of which one is given, with
    neighbouring subwords at most `longest_gap` frames apart.

    Args:
        matches: [..., S, T] match of each subword with each frame.
        lengths: [...] subwords of each entity; what lies beyond means nothing.
        longest_gap: in frames.

    Returns:
        [..., S, T], at least ``LEAST``.
    """
    longest = matches.shape[-2]
    single = matches.unbind(dim=-2)
    until = [single[0]]  # best sum of this and all earlier subwords
    for s in range(1, longest):
        until.append(single[s] + _best_nearby(until[-1], longest_gap, before=True))
    onwards = [single[-1]]  # of this and all later ones, last first
    for s in range(longest - 2, -1, -1):
        rest = _best_nearby(onwards[-1], longest_gap, before=False)
        onwards.append(single[s] + rest.masked_fill((lengths <= s + 1)[..., None], 0))
    whole = torch.stack(until, dim=-2) + torch.stack(onwards[::-1], dim=-2) - matches
    return whole.clamp(min=LEAST)


def _best_nearby(scores: Tensor, gap: int, before: bool) -> Tensor:
    """[..., T] the maximum over the `gap` frames before (or after) each frame, itself not among them."""
    padded = nn.functional.pad(scores.flatten(0, -2), (gap, 0) if before else (0, gap), value=2 * UNLIKELY)
    return nn.functional.max_pool1d(padded[:, :-1] if before else padded[:, 1:], gap, stride=1).view(scores.shape)


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
        mixed = torch.zeros_like(layers[0])
        for weight, norm, layer in zip(weights, self.norms, layers, strict=True):
            # the weight goes into the norm's own scale and shift, which saves a pass over the frames
            mixed = mixed + nn.functional.layer_norm(layer, layer.shape[-1:], weight * norm.weight, weight * norm.bias)
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
