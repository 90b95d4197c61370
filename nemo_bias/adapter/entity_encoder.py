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
    """What the encoder makes of a list.

    Attributes:
        entities: [M, 2 * recurrent_width] one vector an entity: the LSTM's last state of each direction.
        subwords: [M, S, 2 * recurrent_width + embedding_width] one vector a subword: the LSTM's output and the embedding.
        lengths: [M] how many subwords each entity has.
    """

    entities: Tensor
    subwords: Tensor
    lengths: Tensor

    def joined(self, other: EncodedEntities) -> EncodedEntities:
        """These entities, then the others."""
        longest = max(self.subwords.shape[1], other.subwords.shape[1])
        padded = [nn.functional.pad(each.subwords, (0, 0, 0, longest - each.subwords.shape[1])) for each in (self, other)]
        return EncodedEntities(
            torch.cat([self.entities, other.entities]), torch.cat(padded), torch.cat([self.lengths, other.lengths])
        )


class EntityEncoder(nn.Module):
    """A bidirectional LSTM over subword embeddings.

    Args:
        config: sizes.
        vocabulary_size: number of tokens.
    """

    def __init__(self, config: ContextualAdapterConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_width)
        self.lstm = nn.LSTM(config.embedding_width, config.recurrent_width, bidirectional=True, batch_first=True)
        self.entity_size = 2 * config.recurrent_width
        self.subword_size = self.entity_size + config.embedding_width

    def forward(self, lists: TokenLists) -> EncodedEntities:
        """Encodes all entities of a list."""
        embedded = self.embedding(lists.tokens)
        packed = pack_padded_sequence(embedded, lists.lengths, batch_first=True, enforce_sorted=False)
        packed_states, (last, _) = self.lstm(packed)
        states, _ = pad_packed_sequence(packed_states, batch_first=True, total_length=lists.tokens.shape[1])
        return EncodedEntities(
            torch.cat([last[0], last[1]], dim=-1),
            torch.cat([states, embedded], dim=-1),
            lists.lengths.to(lists.tokens.device),
        )
