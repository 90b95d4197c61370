"""Measures what an adapter brings: greedy decoding and biased beam search, each without and with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.evaluation.comparison import LogProbs, Utterances, experiment_list
from nemo_bias.evaluation.metrics import BiasingScore
from nemo_bias.evaluation.recogniser import batches_by_length, greedy_texts
from nemo_bias.integration.decoding.strategy import vocabulary_of
from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter
from nemo_bias.integration.encoder.offering import tokenizer_of
from nemo_bias.integration.training.layer_cache import LayerCache

BATCH_SIZE = 16
WEIGHTS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)  # of the list in beam search, tuned on development data

COLUMNS = ("F1", "precision", "recall", "false alarms/h", "WER", "U-WER", "WER, distractors only")


@dataclass(frozen=True)
class AdapterRow:
    """One way to recognise one set with one list.

    Attributes:
        data: the set's name.
        distractors: phrases of the list that nobody says.
        system: the way.
        weight: of the list in beam search.
        score: with the whole list.
        distractors_wer: word error rate with a list of the distractors only, in percent; None if not measured.
    """

    data: str
    distractors: int
    system: str
    weight: float | None
    score: BiasingScore
    distractors_wer: float | None = None


class EncodedSet:
    """Utterances with the layers that the frozen encoder made of them.

    Args:
        model: NeMo CTC or hybrid model in evaluation mode.
        cache: of a whole manifest.
        items: lines of that manifest, with `text`, `duration` and `entities`.
        numbers: which of them.
    """

    def __init__(self, model: Any, cache: LayerCache, items: Sequence[Mapping[str, Any]], numbers: Sequence[int]) -> None:
        self._model, self._cache = model, cache
        by_number = {utterance.number: utterance for utterance in cache.utterances}
        self.items = [items[k] for k in numbers]
        self._utterances = [by_number[k] for k in numbers]
        self._decoder = getattr(model, "ctc_decoder", model.decoder)
        self.vocabulary: Vocabulary = vocabulary_of(getattr(model, "ctc_decoding", model.decoding))

    def log_probs(self, adapter: BiasingAdapter | None = None, phrases: Sequence[str] = ()) -> list[LogProbs]:
        """Log-probs of each utterance; without bias if there is no adapter."""
        found: list[LogProbs] = [np.zeros((0, 0), np.float32)] * len(self.items)
        entities = adapter.encode(tuple(phrases), tokenizer_of(self._model)) if adapter is not None else None
        with torch.inference_mode():
            for chosen in batches_by_length([u.frames for u in self._utterances], BATCH_SIZE):
                read = [self._cache.read(self._utterances[k]) for k in chosen]
                *layers, encoded = (pad_sequence(list(each), batch_first=True) for each in zip(*read, strict=True))
                lengths = torch.tensor([self._utterances[k].frames for k in chosen])
                if adapter is not None and entities is not None:
                    encoded = encoded + adapter.contextual(layers, lengths, entities).bias
                log_probs = self._decoder(encoder_output=encoded.transpose(1, 2)).float().numpy()
                for row, (k, length) in enumerate(zip(chosen, lengths.tolist(), strict=True)):
                    found[k] = log_probs[row, :length].copy()
        return found

    def greedy(self, log_probs: Sequence[LogProbs]) -> list[str]:
        """Greedy decoding."""
        return greedy_texts(log_probs, self.vocabulary)


@dataclass(frozen=True)
class _Beam:
    """Beam search over one set with one list."""

    vocabulary: Vocabulary
    utterances: Utterances
    log_probs: Sequence[LogProbs]
    phrases: Sequence[str]

    def score(self, weight: float) -> BiasingScore:
        search = BiasedBeamSearch(self.vocabulary, DecodingOptions(weight=weight), threads=1)
        compiled = search.compile(self.phrases)
        texts = [search.decode(each[None], None, compiled)[0][0].text for each in self.log_probs]
        return self.utterances.score(texts, self.phrases)


def evaluate_adapter(
    adapter: BiasingAdapter, sets: Mapping[str, EncodedSet], tuned_on: str, distractors: Sequence[str], count: int
) -> list[AdapterRow]:
    """Measures an adapter on some sets with the same number of distractors.

    Args:
        adapter: in evaluation mode.
        sets: by name.
        tuned_on: the set on which the weight of the list in beam search is chosen, by entity F1.
        distractors: phrases in a fixed order.
        count: how many of them each list has, beside the entities of the set.
    """
    rows: list[AdapterRow] = []
    weights: dict[str, float] = {}
    for name in sorted(sets, key=lambda name: name != tuned_on):
        data = sets[name]
        listed = experiment_list(data.items, distractors, count)
        phrases = listed.phrases
        plain, biased = data.log_probs(), data.log_probs(adapter, phrases)
        misled = data.log_probs(adapter, listed.distractors)
        utterances = Utterances(data.items, plain, data.greedy(plain))
        rows.append(AdapterRow(name, count, "greedy", None, utterances.score(utterances.greedy_texts, phrases)))
        rows.append(
            AdapterRow(
                *(name, count, "adapter", None, utterances.score(data.greedy(biased), phrases)),
                utterances.score(data.greedy(misled), listed.distractors).wer,
            )
        )
        for system, beam in {
            "biased_beam": _Beam(data.vocabulary, utterances, plain, phrases),
            "adapter + biased_beam": _Beam(data.vocabulary, utterances, biased, phrases),
        }.items():
            if name == tuned_on:
                scores = {weight: beam.score(weight) for weight in WEIGHTS}
                weights[system] = max(scores, key=lambda weight: scores[weight].f1 or 0.0)
            rows.append(AdapterRow(name, count, system, weights[system], beam.score(weights[system])))
    return rows


def adapter_markdown(rows: Sequence[AdapterRow]) -> str:
    """Renders rows as a Markdown table, without a newline at its end."""
    lines = [
        f"| data | distractors | decoder | weight | {' | '.join(COLUMNS)} |",
        f"|---|---:|---|---:|{'---:|' * len(COLUMNS)}",
    ]
    for row in rows:
        score = row.score
        numbers = (score.f1, score.precision, score.recall, score.false_alarms_per_hour, score.wer, score.u_wer)
        cells = [row.data, f"{row.distractors:,}", row.system, "-" if row.weight is None else f"{row.weight:g}"]
        cells += ["-" if number is None else f"{number:.1f}" for number in (*numbers, row.distractors_wer)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def encoded_sets(
    model: Any, cache: LayerCache, items: Sequence[Mapping[str, Any]], sources: Sequence[str]
) -> dict[str, EncodedSet]:
    """A manifest by source, the folder that its audio paths start with.

    Raises:
        ValueError: there is nothing of a source.
    """
    sets = {}
    for source in sources:
        numbers = [k for k, item in enumerate(items) if Path(item["audio_filepath"]).parts[0] == source]
        if not numbers:
            raise ValueError(f"no audio_filepath starts with {source}/; change --sources")
        sets[source] = EncodedSet(model, cache, items, numbers)
    return sets
