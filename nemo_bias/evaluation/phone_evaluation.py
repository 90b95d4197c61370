"""Measures a phone head: the error rate of its greedy decoding, beside that of the pronunciation of the recognised text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import kaldialign
import torch

from nemo_bias.adapter.phone_head import phone_errors
from nemo_bias.adapter.phone_labels import PhoneLabels
from nemo_bias.evaluation.adapter_evaluation import EncodedSet
from nemo_bias.evaluation.recogniser import greedy_texts
from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter


@dataclass(frozen=True)
class PhoneRow:
    """Phone error rates on one set, in percent of the phones of its transcripts.

    Attributes:
        data: the set's name.
        head: of the phone head.
        text: of the pronunciation of the text that greedy decoding writes.
    """

    data: str
    head: float
    text: float


def evaluate_phones(adapter: BiasingAdapter, data: EncodedSet, name: str, labels: PhoneLabels) -> PhoneRow:
    """Measures a phone head on one set.

    Args:
        adapter: has a phone head; in evaluation mode.
        data: the set. Transcripts with a word that cannot be pronounced do not count.
        name: what the table calls it.
        labels: pronounces the transcripts, and the recognised text.

    Raises:
        ValueError: the adapter has no phone head.
    """
    log_probs = data.phone_log_probs(adapter)
    if log_probs is None:
        raise ValueError("the adapter has no phone head")
    references = [labels.of(item["text"]) for item in data.items]
    spoken = sum(len(own) for own in references if own is not None)
    errors = 0
    for own, reference in zip(log_probs, references, strict=True):
        errors += phone_errors(torch.from_numpy(own)[None], torch.tensor([len(own)]), [reference])[0]
    texts = greedy_texts(data.log_probs(), data.vocabulary)
    of_text = sum(
        kaldialign.edit_distance(own, labels.of(text) or ())["total"]
        for own, text in zip(references, texts, strict=True)
        if own is not None
    )
    return PhoneRow(name, 100 * errors / max(1, spoken), 100 * of_text / max(1, spoken))


def phones_markdown(rows: Sequence[PhoneRow]) -> str:
    """Renders rows as a Markdown table, without a newline at its end."""
    lines = ["| data | PER of the phone head | PER of the greedy text |", "|---|---:|---:|"]
    return "\n".join(lines + [f"| {row.data} | {row.head:.1f} | {row.text:.1f} |" for row in rows])
