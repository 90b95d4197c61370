"""The training of an adapter's phone head: labels batches, makes the loss, measures the phone error rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nemo_bias.adapter.phone_head import phone_errors, phone_loss
from nemo_bias.adapter.phone_labels import PhoneLabels
from nemo_bias.integration.decoding.strategy import vocabulary_of
from nemo_bias.integration.encoder.adapter_config import ctc_decoding
from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter, Found, Offer
from nemo_bias.pronunciation.phones import Phones


class PhoneTraining:
    """Trains the phone head; see `PartTraining`.

    Args:
        adapter: has the head.
        model: the NeMo model.
        texts: transcripts of the training set, whose words are pronounced in advance.
    """

    def __init__(self, adapter: BiasingAdapter, model: Any, texts: Sequence[str]) -> None:
        if adapter.phones is None:
            raise ValueError("the adapter has no phone head")
        self._sub_frames, self._weight = adapter.phones.sub_frames, adapter.training_config.phone_weight
        self._vocabulary = vocabulary_of(ctc_decoding(model))
        self._phones = PhoneLabels(adapter.training_config.lexicon)
        self._phones.learn(texts)
        self._labels: list[Phones | None] = []  # of the batch
        self._errors, self._spoken = 0, 0

    def draw(self, transcripts: Sequence[Sequence[int]], offer: Offer) -> Offer:
        """Labels a batch, and asks the head to listen to it."""
        self._labels = [self._phones.of(self._vocabulary.text(tokens)) for tokens in transcripts]
        return offer._replace(phones=True)

    expect = draw

    def loss(self, encoded: Tensor, found: Found) -> Tensor:
        """CTC loss a phone, times its weight."""
        if found.phones is None:
            return encoded.new_zeros(())
        return self._weight * phone_loss(found.phones, found.lengths * self._sub_frames, self._labels)

    def start_validation(self) -> None:
        """Starts to count errors."""
        self._errors, self._spoken = 0, 0

    def count(self, found: Found | None) -> None:
        """Counts the errors of greedy decoding in a validation batch."""
        if found is not None and found.phones is not None:
            errors, spoken = phone_errors(found.phones, found.lengths * self._sub_frames, self._labels)
            self._errors, self._spoken = self._errors + errors, self._spoken + spoken

    def end_validation(self) -> dict[str, float]:
        """The phone error rate."""
        return {"val_phone_error_rate": self._errors / max(1, self._spoken)}
