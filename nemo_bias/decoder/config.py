"""Options of the beam search."""

from __future__ import annotations

from dataclasses import dataclass

from nemo_bias.options import option


@dataclass
class BeamOptions:
    """What the search has in common with the config node `biased_beam`.

    A beam of 1 keeps the single best path, as greedy decoding does. Entity paths do not read the subwords that are not among
    the `most_tokens` best of a frame either.
    """

    beam_size: int = option(8, "hypotheses kept after each frame")
    boost: float = option(2.0, "the most that one subword of an entity is raised, in nats (method adaptive)")
    token_margin: float = option(8.0, "subwords further below a frame's best than this many nats are not tried")
    most_tokens: int = option(16, "nor are subwords that are not among this many best of a frame")
