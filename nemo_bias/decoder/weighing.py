"""From the arcs of some utterances to those that are worth a closer look: what compiled code can tell of them, in one go."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.evidence import facts_of
from nemo_bias.decoder.probability import SOUNDALIKE, fact_terms_of, log_odds_of, most_of_texts
from nemo_bias.decoder.selection import candidates_of


class FormFacts(NamedTuple):
    """What is known of the forms in which the phrases of a list are looked for; all arrays are [forms].

    Attributes:
        phrase: the phrase of each form.
        respelled: whether the form is a variant in whose place the entity is written.
        variant_cost: nats, 0 for a form that is no variant.
        likeness: how common the ordinary words are that the phrase sounds like, see `soundalikes`.
    """

    phrase: NDArray[np.int32]
    respelled: NDArray[np.bool_]
    variant_cost: NDArray[np.float32]
    likeness: NDArray[np.float32]


@njit
def weigh(  # type: ignore[no-untyped-def]
    log_probs, best, plain, plain_best, bounds, arcs, places, heard, heard_places, forms, entities, blank, pieces
):
    """Finds the arcs that may be taken, and what facts tell of them.

    Args:
        log_probs: [F, V] in which the arcs were found; with an adapter's bias, if there is one.
        best: [F] the highest of each frame.
        plain: [F, V] without bias; the same array if there is none.
        plain_best: [F] the highest of each frame.
        bounds: [U, 2] of the utterances, see `BatchFrames`.
        arcs: of the utterances.
        places: of the arcs, in the words that are written without entities.
        heard: the `GreedyWords` of `log_probs`.
        heard_places: of the arcs, in these.
        forms: the `FormFacts` of the list.
        entities: how many the list has.
        blank: id of the blank.
        pieces: of the vocabulary.

    Returns:
        The arcs' numbers [n], sorted by start frame, their utterances [n], their facts [n, FACTS] and their terms
        [n, terms], 0 for those that facts do not tell.
    """
    costs = forms.variant_cost[arcs.phrase]
    facts = facts_of(log_probs, best, plain, plain_best, heard, arcs, heard_places, places.allowed, costs, blank, pieces)
    number, rivals = candidates_of(arcs, places, facts, forms.phrase[arcs.phrase], forms.respelled[arcs.phrase])
    terms = fact_terms_of(facts, number, rivals, entities)
    terms[:, SOUNDALIKE] = forms.likeness[arcs.phrase[number]]
    utterance = np.searchsorted(bounds[:, 0], arcs.start[number], side="right") - 1
    return number, utterance, facts[number], terms


@njit
def worth_comparing(terms, weights, offset, number, places, first_token, least):  # type: ignore[no-untyped-def]
    """[kept] positions of the arcs that are likely enough if the words that they replace speak for them as much as can be.

    Texts cost the most to compare, and most arcs are too unlikely, whatever they replace.

    Args:
        terms: [n, terms] of which those of texts are not known yet.
        weights: [n, terms] of `EvidenceWeights.of_arcs`.
        offset: [n] what the weights of the list add to the log-odds.
        number: [n] which of all arcs.
        places: of all arcs, in the words that they are compared with.
        first_token: [words + 1] of these words.
        least: log-odds.
    """
    low = np.searchsorted(first_token, places.whole_low[number])
    high = np.searchsorted(first_token, places.whole_high[number])
    more = np.maximum(0, high - low - 1)
    most = log_odds_of(terms, weights) + most_of_texts(terms, weights, more) + offset
    return np.flatnonzero(most >= least)
