"""Measures what an adapter brings: greedy decoding and entities by evidence, each without and with it, at their defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.evaluation.comparison import ExperimentList, LogProbs, Utterances
from nemo_bias.evaluation.metrics import BiasingScore
from nemo_bias.evaluation.recogniser import batches_by_length, greedy_texts
from nemo_bias.integration.decoding.strategy import vocabulary_of
from nemo_bias.integration.encoder.adapter_config import ctc_decoding, ctc_head
from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter, Offer
from nemo_bias.integration.encoder.offering import tokenizer_of
from nemo_bias.integration.training.layer_cache import LayerCache

BATCH_SIZE = 16

COLUMNS = ("F1", "precision", "recall", "false alarms/h", "WER", "U-WER", "harmed/1,000", "helped/1,000")


@dataclass(frozen=True)
class AdapterRow:
    """One way to recognise one set with one list.

    Attributes:
        data: the set's name.
        distractors: the name of the `ExperimentList`.
        system: the way.
        score: with the whole list; words are harmed or helped against greedy decoding without the adapter.
        distractors_wer: word error rate with a list of the distractors only, in percent; None if there are none.
    """

    data: str
    distractors: str
    system: str
    score: BiasingScore
    distractors_wer: float | None


class EncodedBatch(NamedTuple):
    """Some utterances of an `EncodedSet`.

    Attributes:
        numbers: their places in the set.
        layers: of the encoder, as the adapter takes them, [B, T, width] each.
        encoded: [B, T, output_width] the encoder's output.
        lengths: [B] frames of each.
    """

    numbers: list[int]
    layers: list[Tensor]
    encoded: Tensor
    lengths: Tensor


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
        self._decoder = ctc_head(model)
        self.vocabulary: Vocabulary = vocabulary_of(ctc_decoding(model))

    def log_probs(self, adapter: BiasingAdapter | None = None, phrases: Sequence[str] = ()) -> list[LogProbs]:
        """Log-probs of each utterance; without bias if there is no adapter."""
        found: list[LogProbs] = [np.zeros((0, 0), np.float32)] * len(self.items)
        entities = adapter.encode(tuple(phrases), tokenizer_of(self._model)) if adapter is not None else None
        with torch.inference_mode():
            for numbers, layers, encoded, lengths in self.batches():
                if adapter is not None and entities is not None:
                    adapter.offer(Offer(entities))
                    encoded = encoded + adapter(layers, lengths).biasing.bias
                    adapter.offer(None)
                log_probs = self._decoder(encoder_output=encoded.transpose(1, 2)).float().numpy()
                for row, (k, length) in enumerate(zip(numbers, lengths.tolist(), strict=True)):
                    found[k] = log_probs[row, :length].copy()
        return found

    def phone_log_probs(self, adapter: BiasingAdapter) -> list[LogProbs] | None:
        """[T * sub_frames, phones + 1] of each utterance; None if the adapter has no phone head."""
        if adapter.phones is None:
            return None
        found: list[LogProbs] = [np.zeros((0, 0), np.float32)] * len(self.items)
        adapter.offer(Offer(phones=True))
        with torch.inference_mode():
            for numbers, layers, _, lengths in self.batches():
                phones = adapter(layers, lengths).phones.numpy()
                for own, k, length in zip(phones, numbers, lengths.tolist(), strict=True):
                    found[k] = own[: length * adapter.phones.sub_frames].copy()
        adapter.offer(None)
        return found

    def batches(self) -> Iterator[EncodedBatch]:
        """The utterances, those of like length together."""
        for numbers in batches_by_length([u.frames for u in self._utterances], BATCH_SIZE):
            read = [self._cache.read(self._utterances[k]) for k in numbers]
            *layers, encoded = (pad_sequence(list(each), batch_first=True) for each in zip(*read, strict=True))
            lengths = torch.tensor([self._utterances[k].frames for k in numbers])
            yield EncodedBatch(numbers, layers, encoded, lengths)


def evaluate_adapter(
    adapter: BiasingAdapter, data: EncodedSet, name: str, lists: Sequence[ExperimentList]
) -> list[AdapterRow]:
    """Measures an adapter on one set, with some lists.

    Args:
        adapter: in evaluation mode.
        data: the set.
        name: what the table calls it.
        lists: each is measured whole and with its distractors only; the adapter and the decoder get the same.
    """
    plain, phones = data.log_probs(), data.phone_log_probs(adapter)
    utterances = Utterances(data.items, plain, greedy_texts(plain, data.vocabulary))
    rows = []
    for listed in lists:
        whole = _texts(adapter, data, utterances, phones, listed.phrases)
        misled = _texts(adapter, data, utterances, phones, listed.distractors) if listed.distractors else {}
        for system, texts in whole.items():
            score = utterances.score(texts, listed.phrases)
            wer = utterances.score(misled[system], listed.distractors).wer if misled else None
            rows.append(AdapterRow(name, listed.name, system, score, wer))
    return rows


def _texts(
    adapter: BiasingAdapter,
    data: EncodedSet,
    utterances: Utterances,
    phones: Sequence[LogProbs] | None,
    phrases: Sequence[str],
) -> dict[str, Sequence[str]]:
    """What each way of recognising writes with a list."""
    plain = utterances.log_probs
    search = BiasedBeamSearch(data.vocabulary, threads=1)
    entities = search.compile(phrases)

    def decoded(
        log_probs: Sequence[LogProbs], unbiased: Sequence[LogProbs] | None, heard: Sequence[LogProbs] | None
    ) -> list[str]:
        texts = []
        for k, each in enumerate(log_probs):
            own_plain = None if unbiased is None else unbiased[k][None]
            own_phones = None if heard is None else heard[k][None]
            texts.append(search.decode(each[None], lists=entities, plain=own_plain, phones=own_phones)[0][0].text)
        return texts

    texts: dict[str, Sequence[str]] = {"greedy": utterances.greedy_texts, "biased_beam": decoded(plain, None, None)}
    if phones is not None:
        texts["phones + biased_beam"] = decoded(plain, None, phones)
    if adapter.contextual is not None:
        biased = data.log_probs(adapter, phrases)
        texts["adapter"] = greedy_texts(biased, data.vocabulary)
        texts["adapter + biased_beam"] = decoded(biased, plain, None)
        if phones is not None:
            texts["adapter + phones + biased_beam"] = decoded(biased, plain, phones)
    return texts


def adapter_markdown(rows: Sequence[AdapterRow]) -> str:
    """Renders rows as a Markdown table, without a newline at its end."""
    lines = [
        f"| data | distractors | decoder | {' | '.join(COLUMNS)} | WER, distractors only |",
        f"|---|---:|---|{'---:|' * (len(COLUMNS) + 1)}",
    ]
    for row in rows:
        score = row.score
        numbers = [score.f1, score.precision, score.recall, score.false_alarms_per_hour, score.wer, score.u_wer]
        numbers += [score.harmed_per_thousand, score.helped_per_thousand, row.distractors_wer]
        cells = [row.data, row.distractors, row.system]
        cells += ["-" if number is None else f"{number:.1f}" for number in numbers]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
