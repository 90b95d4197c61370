"""Encoder biasing: attention from the audio to the entities of a list, whose result is added to the encoder's output.

Each frame makes a query from a learned weighted sum of encoder layers, so it sees what lies between the sound and the token
that CTC chose for the frame alone. Three stages, each for fewer entities than the one before and with a sharper eye:

1. *Which entities may be in this utterance?* Those whose subwords are heard close together, in whatever order
   (`EntityProposals`). This goes over the whole list and costs next to nothing.
2. *Which of them is spoken in this frame, if any?* One key an entity, and one for the no-bias entry.
3. *Which of its subwords?* Attention over all subwords of the entities that did best in the first two stages, and the
   no-bias entry again. A subword's score in a frame is not its own match alone, but that of the whole entity, aligned to the
   frames around so that this subword falls on this frame (`whole_entity_scores`). So a frame attends to the "son" of
   "simpson" only where "simp" was heard just before. The second stage's log-odds are added.

The no-bias entry has no value: a frame that attends to it alone is left as it was. Outside training so is one that attends
to entities too little (`LEAST_ATTENTION`): its bias is exactly zero. The last projection starts at zero, so a new adapter
changes nothing.

After Sathyendra et al. 2022 (arXiv 2205.13660), who attend to one vector an entity, and Dingliwal et al. 2022
(arXiv 2210.09510), who take the query from several layers of a CTC encoder. Choosing entities first and attending to their
subwords then is the idea of Wu et al. 2024 (arXiv 2404.10180). The proposals, the alignment, sizes and formulas are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nemo_bias.adapter.config import ContextualAdapterConfig
from nemo_bias.adapter.entity_encoder import EncodedEntities, EntityEncoder, TokenLists
from nemo_bias.adapter.proposals import UNLIKELY, EntityProposals
from nemo_bias.adapter.query import LayerMix

IMPOSSIBLE = -1e4  # a score that softmax turns into 0, in half precision too
NEGLIGIBLE = -80.0  # the logarithm of attention that counts as none; smaller numbers would only be slow
PROPOSAL_WEIGHT = 0.5  # of an entity's first score beside its highest log-odds of the second, when the best are chosen
# The least attention to all entities together with which a frame gets a bias. Measured with the bundled adapter and greedy
# decoding on development data, lists of its entities and 1,000 distractors: entity F1 is 31.7 % on LibriSpeech and 25.8 % on
# Common Voice up to 0.1, 31.7 and 25.4 at 0.2, 30.6 and 25.4 at 0.3, 29.4 and 25.4 at 0.5. Frames with a bias: all at 0, a
# fifth at 0.2. Of 554 texts, a list of the distractors alone changes 357 at 0 and 262 at 0.2.
LEAST_ATTENTION = 0.2
LEAST = -50.0  # of a whole entity's score: keeps sums of unlikely matches in a range that half precision holds


class Biasing(NamedTuple):
    """What the adapter found in a batch; H heads, K chosen entities, the longest of them with S subwords.

    Attributes:
        bias: [B, T, output_width] to be added to the encoder's output; in evaluation 0 in frames with little attention.
        proposal_scores: [B, M] first stage: how likely it is that an entity is in an utterance, in nats up to a constant;
            only in training.
        entity_log_probs: [B, T, 1 + M] second stage: no bias, then each entity of the list, in nats; only in training.
        chosen: [B, K] the entities of the third stage, by index in the list, best first.
        subword_log_probs: [B, T, H, 1 + K * S] third stage: no bias, then the subwords of the chosen entities, in nats.
    """

    bias: Tensor
    proposal_scores: Tensor | None
    entity_log_probs: Tensor | None
    chosen: Tensor
    subword_log_probs: Tensor

    def entity_probabilities(self) -> Tensor:
        """[B, T, K] attention of the third stage to each chosen entity, summed over its subwords, mean over heads."""
        probabilities = self.subword_log_probs[..., 1:].exp().mean(dim=2)
        batch, frames, _ = probabilities.shape
        return probabilities.reshape(batch, frames, self.chosen.shape[1], -1).sum(dim=3)


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
        self.proposals = EntityProposals(width, vocabulary_size)
        self.entity_query = nn.Linear(width, config.entity_width)
        attention_width = config.heads * config.head_width
        self.subword_query = nn.Linear(width, attention_width)
        if config.no_bias:
            self.entity_no_bias = nn.Parameter(0.1 * torch.randn(config.entity_width))
            self.subword_no_bias = nn.Parameter(0.1 * torch.randn(config.heads, config.head_width))
        self.entity_weight = nn.Parameter(torch.ones(config.heads))  # of the second stage's log-odds, for each head
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
    ) -> Biasing:
        """Attends to a list.

        Args:
            layers: outputs of the encoder layers, [B, T, width] each.
            lengths: [B] frames of each utterance.
            entities: of all lists of the batch, M in all.
            offered: [B, M] which of them are in an utterance's list; all by default.
            required: [B, M] which of them enter the third stage in any case.
        """
        spoken = torch.arange(layers[0].shape[1], device=lengths.device) < lengths[:, None]
        query = self.query(layers, spoken)
        proposal_scores = self.proposals(query, spoken, entities.tokens)
        queries = self.entity_query(query) / math.sqrt(self.config.entity_width)
        nothing = queries @ self.entity_no_bias if self.config.no_bias else torch.zeros_like(queries[..., 0])
        chosen = self._choose(proposal_scores, queries, nothing, spoken, entities.keys, offered, required)
        log_odds = torch.einsum("btd,bkd->btk", queries, entities.keys[chosen]) - nothing[..., None]
        log_probs, found = self._subword_attention(query, log_odds, entities, chosen, offered, spoken)
        bias = self.output(found)
        if not self.training:
            return Biasing(self._where_attended(bias, log_probs), None, None, chosen, log_probs)
        entity_log_probs = self._entity_log_probs(queries, nothing, entities, offered)
        return Biasing(bias, proposal_scores, entity_log_probs, chosen, log_probs)

    def _where_attended(self, bias: Tensor, log_probs: Tensor) -> Tensor:
        """The bias [B, T, D], exactly 0 in frames with less attention to entities than `LEAST_ATTENTION`."""
        if not self.config.no_bias:
            return bias
        attention = 1 - log_probs[..., 0].exp().mean(dim=2)
        return bias.masked_fill((attention < LEAST_ATTENTION)[..., None], 0)

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
        proposal_scores: Tensor,
        queries: Tensor,
        nothing: Tensor,
        spoken: Tensor,
        keys: Tensor,
        offered: Tensor | None,
        required: Tensor | None,
    ) -> Tensor:
        """[B, K] the entities of the third stage: of those that do best in the first, those that do best in the second."""

        def best(scores: Tensor, most: int, entities: Tensor | None = None) -> Tensor:
            if offered is not None:
                scores = scores.masked_fill(~(offered if entities is None else offered.gather(1, entities)), 2 * IMPOSSIBLE)
            if required is not None:
                scores = scores.masked_fill(required if entities is None else required.gather(1, entities), -IMPOSSIBLE)
            return scores.topk(min(most, scores.shape[1]), dim=1).indices

        proposed = best(proposal_scores, self.config.proposed_entities)
        needed = nothing.masked_fill(~spoken, -IMPOSSIBLE)[..., None]
        log_odds = torch.baddbmm(needed, queries, keys[proposed].transpose(1, 2), beta=-1)
        scores = log_odds.amax(dim=1) + PROPOSAL_WEIGHT * proposal_scores.gather(1, proposed)
        return proposed.gather(1, best(scores, self.config.most_entities, proposed))

    def _subword_attention(
        self,
        query: Tensor,
        log_odds: Tensor,
        entities: EncodedEntities,
        chosen: Tensor,
        offered: Tensor | None,
        spoken: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Log-probs [B, T, H, 1 + K * S] and what they fetch [B, T, H * head_width]; `log_odds` [B, T, K] of stage two."""
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
        scores = scores + (self.entity_weight[:, None, None] * log_odds.transpose(1, 2)[:, None])[:, :, :, None]
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
