"""Trains a biasing adapter in any Lightning trainer: freezes the recogniser, adds a loss for each part, measures the parts.

Lightning finds the callback by the package's entry point, so NeMo's own training scripts run it unmodified. For a model
without an enabled biasing adapter it does nothing and loads nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lightning.pytorch import Callback
from torch import Tensor

if TYPE_CHECKING:
    from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter, Found, Offer


MEASURED = {"val_entity_recall": "entity recall", "val_phone_error_rate": "phone error rate"}  # as logged, and as told


class PartTraining(Protocol):
    """The training of one part of an adapter."""

    def draw(self, transcripts: Sequence[Sequence[int]], offer: Offer) -> Offer:
        """Prepares for a training batch, given its token ids; adds what the part needs to an offer."""

    def loss(self, encoded: Tensor, found: Found) -> Tensor:
        """The part's own loss of that batch, given the encoder's output [B, D, T] without bias."""

    def start_validation(self) -> None:
        """Starts to count."""

    def expect(self, transcripts: Sequence[Sequence[int]], offer: Offer) -> Offer:
        """Prepares for a validation batch, given its token ids; adds what the part needs to an offer."""

    def count(self, found: Found | None) -> None:
        """Counts what was right in that batch."""

    def end_validation(self) -> dict[str, float]:
        """What to log."""


class AdapterTraining(Callback):  # type: ignore[misc]
    """Trains the parts of the enabled biasing adapter of a NeMo CTC or hybrid model, and nothing else of it."""

    def __init__(self) -> None:
        self._adapter: BiasingAdapter | None = None
        self._parts: list[PartTraining] = []
        self._validating = False
        self._shown: list[tuple[int, dict[str, float]]] = []  # steps, and what validation of all data showed

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Freezes the recogniser, before Lightning wraps the model for several processes."""
        self._adapter = None
        self._shown = []
        if stage != "fit" or not hasattr(getattr(pl_module, "encoder", None), "adapter_layer"):
            return
        from nemo_bias.integration.encoder.biasing_adapter import enabled_adapters

        adapters = enabled_adapters(pl_module)
        if not adapters:
            return
        self._adapter = adapters[0]
        if len(adapters) > 1:
            raise ValueError("more than one biasing adapter is enabled; disable all but the one to be trained")
        own = {id(parameter) for part in self._adapter.trained_parts().values() for parameter in part.parameters()}
        for parameter in pl_module.parameters():
            parameter.requires_grad_(id(parameter) in own)
        self._parts = part_trainings(self._adapter, pl_module, trainer.global_rank)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Draws the list of the batch, and labels it."""
        if self._adapter is None:
            return
        _set_modes(pl_module, self._adapter)
        self._adapter.supervisor = self
        offer = _nothing_offered()
        for part in self._parts:
            offer = part.draw(_transcripts(batch), offer)
        self._adapter.offer(offer)

    def loss(self, encoded: Tensor, found: Found) -> Tensor:
        """The sum of the losses of the parts."""
        return sum((part.loss(encoded, found) for part in self._parts), encoded.new_zeros(()))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Withdraws the list."""
        if self._adapter is not None:
            self._adapter.offer(None)
            self._adapter.supervisor = None

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Starts to count."""
        if self._adapter is not None and self._parts:
            self._validating = True
            for part in self._parts:
                part.start_validation()

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Offers all that is spoken in the batch, and distractors; labels the batch."""
        if self._adapter is not None and self._validating:
            offer = _nothing_offered()
            for part in self._parts:
                offer = part.expect(_transcripts(batch), offer)
            self._adapter.offer(offer)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Counts what was recognised."""
        if self._adapter is not None and self._validating:
            self._adapter.offer(None)
            for part in self._parts:
                part.count(self._adapter.found)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Logs the entity recall of greedy decoding with the adapter, and the phone error rate."""
        if self._validating:
            for part in self._parts:
                for name, value in part.end_validation().items():
                    pl_module.log(name, value, prog_bar=True, sync_dist=True)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Remembers what was logged, unless it is of some batches only, as in NeMo's check before training."""
        if self._validating and (not trainer.sanity_checking or trainer.num_sanity_val_batches == trainer.num_val_batches):
            metrics = trainer.callback_metrics
            self._shown.append((trainer.global_step, {name: float(metrics[name]) for name in MEASURED if name in metrics}))
        self._validating = False

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Tells what training has brought: the first validation, and the last."""
        if self._shown:
            from nemo.utils import logging

            measured = [self._shown[0], self._shown[-1]] if len(self._shown) > 1 else self._shown
            for name, said in MEASURED.items():
                values = [f"{100 * shown[name]:.1f} % {_when(step)}" for step, shown in measured if name in shown]
                if values:
                    logging.info(f"nemo_bias: {said} of the validation data: {', '.join(values)}")


def part_trainings(adapter: BiasingAdapter, model: Any, rank: int = 0) -> list[PartTraining]:
    """The trainings of the parts of an adapter that are to be trained.

    Args:
        adapter: one of the model's.
        model: its config names the manifests.
        rank: of this process.

    Raises:
        LexiconError: the lexicon for the labels of a phone head cannot be used.
        ValueError: there is nothing to learn in the manifests.
    """
    from nemo_bias.integration.training.contextual_training import ContextualTraining
    from nemo_bias.integration.training.phone_training import PhoneTraining

    trained = adapter.trained_parts()
    texts, marked = _read_manifests(model)
    parts: list[PartTraining] = []
    if "contextual" in trained:
        parts.append(ContextualTraining(adapter, model, texts, marked, rank))
    if "phones" in trained:
        parts.append(PhoneTraining(adapter, model, texts))
    return parts


def _when(step: int) -> str:
    return f"after {step:,} steps" if step else "before training"


def _nothing_offered() -> Offer:
    from nemo_bias.integration.encoder.biasing_adapter import Offer

    return Offer()


def _set_modes(model: Any, adapter: BiasingAdapter) -> None:
    """Everything but the adapter (and SpecAugment) in evaluation mode: no dropout, no change of batch-norm statistics."""
    for child in model.children():
        if child is not getattr(model, "spec_augmentation", None):
            child.eval()
    adapter.train()


def _transcripts(batch: Any) -> list[list[int]]:
    tokens, lengths = batch[2], batch[3]
    return [row[:length] for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]


def _read_manifests(model: Any) -> tuple[list[str], list[str]]:
    """Transcripts of the training manifests, and the phrases marked in training and validation manifests."""
    texts, marked = [], []
    for section in ("train_ds", "validation_ds"):
        for item in _manifest_items(model.cfg.get(section) or {}):
            if section == "train_ds" and isinstance(item.get("text"), str):
                texts.append(item["text"])
            entities = item.get("entities") or []
            items = entities if isinstance(entities, list) else [entities]
            marked += [each["text"] if isinstance(each, dict) and "text" in each else each for each in items]
    return texts, list(dict.fromkeys(each for each in marked if isinstance(each, str) and each.strip()))


def _manifest_items(section: Any) -> Iterator[dict[str, Any]]:
    paths = section.get("manifest_filepath") or []
    for path in paths.split(",") if isinstance(paths, str) else paths:
        try:
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    item = json.loads(line) if line.strip() else {}
                    yield item if isinstance(item, dict) else {}
        except (OSError, ValueError, TypeError):
            continue  # a sharded or tarred set, or a broken file, on which NeMo has its say
