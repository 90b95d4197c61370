"""Proposes entities of a list for an utterance: those whose subwords are heard close together, in whatever order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

UNLIKELY = -30.0  # the match of a subword with a frame beyond the utterance's end
WINDOW = 16  # frames in which an entity's subwords are looked for; windows overlap by half
PIECE = 4096  # entities that are scored at a time


class EntityProposals(nn.Module):
    """Scores a whole list by tokens alone: an entity costs one sum of its tokens for each window of frames.

    Each frame gives each token of the vocabulary a score, the best of which in each window of frames counts. An entity's
    score is the sum of its tokens' in its best window. Trained to tell spoken entities from others (`proposal_loss`), a
    token's score becomes its log-likelihood ratio. The formula is ours.

    Args:
        width: of the queries.
        vocabulary_size: number of tokens.
    """

    def __init__(self, width: int, vocabulary_size: int) -> None:
        super().__init__()
        self.tokens = nn.Linear(width, vocabulary_size)

    def forward(self, query: Tensor, spoken: Tensor, entities: Tensor) -> Tensor:
        """Scores [B, M].

        Args:
            query: [B, T, width].
            spoken: [B, T] tells frames from padding.
            entities: [M, S] token ids plus one, 0 after an entity's end.
        """
        scores = self.tokens(query).float().masked_fill(~spoken[..., None], UNLIKELY)
        nearby = nn.functional.max_pool1d(scores.transpose(1, 2), WINDOW, stride=WINDOW // 2, padding=WINDOW // 2)
        batch, vocabulary, windows = nearby.shape
        # a row for no token, and one for each: summing rows is what `embedding_bag` is made for
        rows = nn.functional.pad(nearby.transpose(0, 1).reshape(vocabulary, -1), (0, 0, 1, 0))
        pieces = [
            nn.functional.embedding_bag(piece, rows, mode="sum", padding_idx=0).view(-1, batch, windows).amax(dim=2)
            for piece in torch.split(entities, PIECE)
        ]
        return torch.cat(pieces).T
