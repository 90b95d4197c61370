"""Turns the subwords of each entity into the vectors that attention matches with the audio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from nemo_bias.adapter.config import ContextualAdapterConfig


class TokenLists(NamedTuple):
    """Token sequences of entities.

    Attributes:
        tokens: [M, S] token ids, 0 after an entity's end.
        lengths: [M] how many tokens each entity has, at least 1; on the CPU.
    """

    tokens: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, entities: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> TokenLists:
        """Pads token sequences.

        Raises:
            ValueError: there are none, or one is empty.
        """
        if not entities or not all(entities):
            raise ValueError("an entity without tokens" if entities else "no entities")
        lengths = torch.tensor([len(each) for each in entities])
        tokens = torch.zeros(len(entities), int(lengths.max()), dtype=torch.long)
        tokens[torch.arange(tokens.shape[1]) < lengths[:, None]] = torch.tensor([t for each in entities for t in each])
        return cls(tokens.to(device), lengths)


class EncodedEntities(NamedTuple):
    """What the encoder makes of a list of M entities of at most S subwords; W is `heads * head_width`.

    Attributes:
        tokens: [M, S] token ids plus one, 0 after an entity's end; by which entities are proposed.
        keys: [M, entity_width] by which an entity is chosen.
        subword_keys: [M, S, W] by which a frame finds its subword.
        subword_values: [M, S, W] what the frame gets of it.
        lengths: [M] how many subwords each entity has.
    """

    tokens: Tensor
    keys: Tensor
    subword_keys: Tensor
    subword_values: Tensor
    lengths: Tensor

    def joined(self, other: EncodedEntities) -> EncodedEntities:
        """These entities, then the others."""
        longest = max(self.subword_keys.shape[1], other.subword_keys.shape[1])

        def both(left: Tensor, right: Tensor) -> Tensor:
            """Pads the second dimension and joins the first."""
            padded = [
                nn.functional.pad(each, (0, 0) * (each.dim() - 2) + (0, longest - each.shape[1])) for each in (left, right)
            ]
            return torch.cat(padded)

        return EncodedEntities(
            both(self.tokens, other.tokens),
            torch.cat([self.keys, other.keys]),
            both(self.subword_keys, other.subword_keys),
            both(self.subword_values, other.subword_values),
            torch.cat([self.lengths, other.lengths]),
        )


class EntityEncoder(nn.Module):
    """A bidirectional LSTM over subword embeddings.

    An entity's key is made of the LSTM's last states; a subword's key and value of the LSTM's output and the embedding.

    Args:
        config: sizes.
        vocabulary_size: number of tokens.
    """

    def __init__(self, config: ContextualAdapterConfig, vocabulary_size: int) -> None:
        super().__init__()
        states, attention = 2 * config.recurrent_width, config.heads * config.head_width
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_width)
        self.lstm = nn.LSTM(config.embedding_width, config.recurrent_width, bidirectional=True, batch_first=True)
        self.key = nn.Linear(states, config.entity_width)
        self.subword_key = nn.Linear(states + config.embedding_width, attention)
        self.subword_value = nn.Linear(states + config.embedding_width, attention)

    def forward(self, lists: TokenLists) -> EncodedEntities:
        """Encodes all entities of a list."""
        embedded = self.embedding(lists.tokens)
        packed = pack_padded_sequence(embedded, lists.lengths, batch_first=True, enforce_sorted=False)
        packed_states, (last, _) = self.lstm(packed)
        states, _ = pad_packed_sequence(packed_states, batch_first=True, total_length=lists.tokens.shape[1])
        subwords = torch.cat([states, embedded], dim=-1)
        lengths = lists.lengths.to(lists.tokens.device)
        present = torch.arange(lists.tokens.shape[1], device=lengths.device) < lengths[:, None]
        return EncodedEntities(
            (lists.tokens + 1) * present,
            self.key(torch.cat([last[0], last[1]], dim=-1)),
            self.subword_key(subwords),
            self.subword_value(subwords),
            lengths,
        )
