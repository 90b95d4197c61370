"""How likely an arc is the entity: a logistic regression on the facts about it.

The log-odds are a sum of *terms* times weights. A recogniser that is sure of what it writes is mostly right about it,
and one that is not says little by its log-probs; so some weights depend on the *certainty* of the utterance: the
geometric mean probability of its greedy labels, blanks only if there is nothing else. `unsure` holds for a certainty of
0.6, `sure` for 0.95, a straight line for the rest. Below `UNINTELLIGIBLE` it is noise, or another language, and nothing
is looked for. Other sets are added where an adapter biased the log-probs, where a phone head listened, for arcs that
were looked up, and where a language model chose what is written. There are weights for use with and without word
frequencies, and with and without pronunciations. `scripts/fit_evidence.py` fits them all; `evidence.json` holds the
result.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemo_bias.compiled import njit
from nemo_bias.decoder.evidence import (
    CHARACTERS,
    CONFIDENCE,
    EDITS,
    GAP,
    HITS,
    LEFTOVER,
    LIFT,
    TOKENS,
    VARIANT,
    WORDS,
    WORST,
)
from nemo_bias.decoder.lm_evidence import LANGUAGE_TERMS
from nemo_bias.decoder.phone_evidence import PHONE_TERMS
from nemo_bias.decoder.word_pairs import STRONGEST
from nemo_bias.messages import readable

UNSURE, SURE, LEAST_CERTAINTY = 0.6, 0.95, 0.5
UNINTELLIGIBLE = 0.4  # utterances of less certainty have no entities: of their arcs on development data none was likely
SHORT_LIST = 200  # shorter lists are weighed as if they had this many entities; none was measured
DEFAULT_FILE = Path(__file__).with_name("evidence.json")
TERMS = {
    "constant": "1",
    "gap": "nats that the arc's frames lose against their best labels",
    "loss_per_character": "these and the nats lost by leftover frames, by the characters of the phrase",
    "worst_frame": "nats that the worst frame of the arc loses",
    "characters": "of the phrase",
    "tokens": "of the arc",
    "missed_tokens": "tokens of the arc that are nowhere the best label",
    "words": "of the phrase",
    "edits": "square root of the edit distance between the phrase and what it replaces",
    "confidence": "probability of the least sure frame of what it replaces",
    "rivals": "ln(1 + overlapping arcs of other entities that fit nearly as well or better)",
    "list_size": "ln of the number of entities",
    "lift": "nats by which an adapter raised the arc",
    "root_lift": "the square root of that",
    "variant_cost": "nats that the variant of the entity costs that was found; a log-probability, so its weight is -1",
    "soundalike": "how common the ordinary words are that the phrase sounds like (`soundalikes`; Zipf scale)",
    "sound": "distance between how the phrase and what it replaces are said (`pronunciation.distance`)",
    "common": "how common the rarest replaced word is in ordinary text (Zipf scale, 0 to 8; 0: unknown)",
    "common_and_sure": "that times the confidence",
    "common_and_more": "that times the number of replaced words but one: a name that is not known is heard as several",
    "tie": "the strongest tie of two neighbours that it parts (`word_pairs`)",
    **PHONE_TERMS,
    **LANGUAGE_TERMS,
}
CONFIDENT, SOUND, COMMON, COMMON_AND_SURE, COMMON_AND_MORE, TIE = map(
    list(TERMS).index, ("confidence", "sound", "common", "common_and_sure", "common_and_more", "tie")
)
SOUNDALIKE = list(TERMS).index("soundalike")
OF_TEXTS = slice(SOUND, TIE + 1)  # kinds of terms
OF_PHONES = slice(OF_TEXTS.stop, OF_TEXTS.stop + len(PHONE_TERMS))
OF_LANGUAGE = slice(OF_PHONES.stop, len(TERMS))
TERM_COUNT = len(TERMS)
# What tells the risk: `confidence` of what is heard (see `candidates`), `common` and `tie` of what is replaced.
STAKES = ("constant", "characters", "confidence", "common", "tie")
OF_STAKES = [list(TERMS).index(term) for term in STAKES]
COMMONEST = np.float32(9.0)  # the highest value of `common`: a text of one word only
WEIGHT_SETS = {  # what a file calls the weights, by whether there are word frequencies, and pronunciations
    (True, True): "all",
    (False, True): "without_frequencies",
    (True, False): "without_pronunciations",
    (False, False): "without_both",
}
PARTS = ("unsure", "sure", "adapter", "phones", "looked_up", "language_model", "risk")


@dataclass(frozen=True)
class EvidenceWeights:
    """Weights of the terms, [terms] each.

    Attributes:
        unsure: at the certainty `UNSURE`.
        sure: at the certainty `SURE`.
        adapter: what is added where an adapter biased the log-probs.
        phones: what is added where a phone head listened.
        looked_up: what is added for arcs that were looked up.
        language_model: what is added where a language model chose what is written.
        risk: [STAKES] of another question, see `risk`: whether right words would be lost.
    """

    unsure: NDArray[np.float32]
    sure: NDArray[np.float32]
    adapter: NDArray[np.float32]
    phones: NDArray[np.float32]
    looked_up: NDArray[np.float32]
    language_model: NDArray[np.float32]
    risk: NDArray[np.float32]

    def of_arcs(
        self,
        certainty: NDArray[np.float64],
        looked_up: NDArray[np.bool_],
        adapter: bool,
        phones: bool,
        language_model: bool,
    ) -> NDArray[np.float32]:
        """[n, terms] the weights of arcs.

        Args:
            certainty: [n] of their utterances; below `LEAST_CERTAINTY`, of which little was measured, it counts as that.
            looked_up: [n] whether each was looked up.
            adapter: whether one biased the log-probs.
            phones: whether a phone head listened.
            language_model: whether one chose what is written.
        """
        share = ((np.maximum(LEAST_CERTAINTY, certainty) - UNSURE) / (SURE - UNSURE)).astype(np.float32)
        weights: NDArray[np.float32] = self.unsure + share[:, None] * (self.sure - self.unsure)
        if adapter:
            weights += self.adapter
        if phones:
            weights += self.phones
        if language_model:
            weights += self.language_model
        weights[looked_up] += self.looked_up
        return weights


@lru_cache(maxsize=8)
def read_weights(path: str | Path, with_frequencies: bool, with_sounds: bool) -> EvidenceWeights:
    """Reads weights, as `scripts/fit_evidence.py` writes them: JSON objects with a number for each term.

    Args:
        path: the file; `DEFAULT_FILE` is the package's own.
        with_frequencies: whether for use with word frequencies.
        with_sounds: whether for use with pronunciations.

    Raises:
        ValueError: it cannot be read, or is not such a file; the message names it and what is wrong.
    """
    with readable("evidence_file", path):
        text = Path(path).read_text(encoding="utf-8")
    try:
        content = json.loads(text)
        sets = content[WEIGHT_SETS[with_frequencies, with_sounds]]
        columns = []
        for name in PARTS:
            unknown = sorted(set(sets[name]) - set(TERMS))
            if unknown:
                raise ValueError(f"{unknown[0]!r} in {name!r} is no term")
            used = STAKES if name == "risk" else TERMS
            columns.append(np.array([float(sets[name].get(term, 0.0)) for term in used], np.float32))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no weights of evidence ({error}); fit them with scripts/fit_evidence.py") from error
    return EvidenceWeights(*columns)


def probability_of(log_odds: float) -> float:
    """The probability that log-odds stand for."""
    return 1 / (1 + math.exp(-max(-700.0, log_odds)))


def probabilities(log_odds: NDArray[Any]) -> NDArray[Any]:
    """The same of each of [n]."""
    found: NDArray[Any] = np.exp(-np.logaddexp(0, -log_odds))
    return found


@njit
def certainties_of(labels, best, bounds, blank):  # type: ignore[no-untyped-def]
    """[U] certainties: the geometric mean probability of an utterance's labels, blanks only if there is nothing else.

    Args:
        labels: [F] what is written.
        best: [F] the highest log-prob of each frame.
        bounds: [U, 2] of the utterances, see `BatchFrames`.
        blank: id of the blank.
    """
    certainties = np.empty(len(bounds), np.float64)
    for u in range(len(bounds)):
        said, count, total = 0.0, 0, 0.0
        for t in range(bounds[u, 0], bounds[u, 1]):
            total += best[t]
            if labels[t] != blank:
                said += best[t]
                count += 1
        certainties[u] = np.exp(said / count if count else total / max(bounds[u, 1] - bounds[u, 0], 1))
    return certainties


@njit
def fact_terms_of(facts, number, rivals, entities):  # type: ignore[no-untyped-def]
    """The terms of some arcs that facts tell.

    Args:
        facts: [arcs, FACTS].
        number: [n] which of the arcs.
        rivals: [n] overlapping arcs of other entities that fit nearly as well or better.
        entities: how many the list has.

    Returns:
        [n, terms], 0 for terms that facts do not tell.
    """
    terms = np.zeros((len(number), TERM_COUNT), np.float32)
    size = np.log(max(SHORT_LIST, entities))
    for n in range(len(number)):
        fact, term = facts[number[n]], terms[n]
        characters = max(np.float32(1), fact[CHARACTERS])
        term[0], term[1] = 1, fact[GAP]
        term[2] = (fact[GAP] + fact[LEFTOVER]) / characters
        term[3], term[4], term[5] = fact[WORST], fact[CHARACTERS], fact[TOKENS]
        term[6], term[7], term[8] = fact[TOKENS] - fact[HITS], fact[WORDS], np.sqrt(fact[EDITS])
        term[9], term[10], term[11] = np.exp(fact[CONFIDENCE]), np.log(1 + rivals[n]), size
        term[12], term[13] = fact[LIFT], np.sqrt(max(np.float32(0), fact[LIFT]))
        term[14] = fact[VARIANT]
    return terms


@njit
def log_odds_of(terms, weights):  # type: ignore[no-untyped-def]
    """[n] the log-odds of arcs.

    Args:
        terms: [n, terms].
        weights: [n, terms] of `EvidenceWeights.of_arcs`.
    """
    log_odds = np.zeros(len(terms), np.float32)
    for n in range(len(terms)):
        total = 0.0
        for k in range(terms.shape[1]):
            total += terms[n, k] * weights[n, k]
        log_odds[n] = total
    return log_odds


@njit
def most_of_texts(terms, weights, more):  # type: ignore[no-untyped-def]
    """[n] the most that the terms of texts can add to the log-odds of arcs, whatever the texts are.

    Args:
        terms: [n, terms] of which those of facts are known.
        weights: [n, terms] of `EvidenceWeights.of_arcs`.
        more: [n] the number of words that it replaces but one, at least 0.
    """
    most = np.empty(len(terms), np.float32)
    for n in range(len(terms)):
        own = weights[n]
        sure = own[COMMON_AND_SURE] + more[n] * max(np.float32(0), own[COMMON_AND_MORE])
        common = own[COMMON] + terms[n, CONFIDENT] * sure
        most[n] = (
            max(np.float32(0), own[SOUND])
            + COMMONEST * max(np.float32(0), common)
            + STRONGEST * max(np.float32(0), own[TIE])
        )
    return most
