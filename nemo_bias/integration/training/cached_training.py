"""Trains an adapter from cached encoder layers: many times faster on a CPU than running the frozen encoder in every epoch.

The same callback as in NeMo's own scripts draws the lists and adds the loss. For several GPUs, or augmentation that changes
in every epoch, use NeMo's `train_asr_adapter.py`.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import open_dict
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

from nemo_bias.evaluation.audio import check_audio
from nemo_bias.evaluation.manifest import read_manifest
from nemo_bias.evaluation.written_lists import unwritten_lines
from nemo_bias.integration.decoding.strategy import vocabulary_of
from nemo_bias.integration.encoder.adapter_config import ctc_decoding, ctc_head
from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter
from nemo_bias.integration.encoder.offering import tokenizer_of
from nemo_bias.integration.training.adapter_training import part_trainings
from nemo_bias.integration.training.layer_cache import ENCODED_FIELDS, CachedUtterance, LayerCache, encode_manifest

FRAME_SORTING = 800  # utterances that are sorted by length together, so that batches have little padding

Batch = tuple[list[Tensor], Tensor, Tensor, Tensor]  # layers [B, T, width] each, lengths [B], tokens [B, U], lengths [B]


@dataclass
class TrainingRun:
    """What `train_adapter` does.

    Attributes:
        train: manifests; one that is given twice counts twice.
        validation: manifest, or None.
        audio_dir: where relative audio paths start; None: in the manifests' folders.
        output: adapter file to write.
        cache: folder for the encoder's layers; about 2 kB a frame for a width of 192.
        copies: of each training manifest: one is clean, the others vary pace, room and noise.
        steps: optimizer steps.
        learning_rate: the highest; it rises over the first steps and falls to zero along a cosine.
        batch_frames: encoder frames in a batch, padding included.
        validate_every: steps between validations, which also save the adapter.
        log_dir: folder for TensorBoard, or None.
    """

    train: Sequence[Path]
    output: Path
    cache: Path
    validation: Path | None = None
    audio_dir: Path | None = None
    copies: int = 3
    steps: int = 5000
    learning_rate: float = 2e-3
    batch_frames: int = 1900
    validate_every: int = 500
    log_dir: Path | None = None

    def check(self) -> None:
        """Refuses what cannot be read or written, before the encoder runs for hours.

        Raises:
            AudioError: audio cannot be read.
            ManifestError: a manifest is broken.
            OSError: the adapter file cannot be written.
            ValueError: a number is out of range, or a manifest is empty.
        """
        for field_name in ("copies", "steps", "batch_frames", "validate_every"):
            if getattr(self, field_name) < 1:
                raise ValueError(f"{field_name} is {getattr(self, field_name)}; it must be at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0")
        for manifest in (*self.train, *([self.validation] if self.validation else [])):
            items = read_manifest(manifest, ENCODED_FIELDS)
            if not any(str(item["text"]).strip() for item in items):
                raise ValueError(f"{manifest}: no line has a transcript; give speech with its text")
            check_audio(items, self.audio_dir or manifest.parent)
        self.output.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(self.output.parent, os.W_OK) or self.output.is_dir():
            raise OSError(f"{self.output}: cannot be written; choose another --output")


def check_transcripts(run: TrainingRun, alphabet: frozenset[str]) -> None:
    """Refuses transcripts that a model cannot write, or warns if they are few.

    Args:
        run: with its manifests.
        alphabet: the characters that the model's tokens can write.

    Raises:
        ValueError: they are at least half of a manifest.
    """
    for manifest in (*run.train, *([run.validation] if run.validation else [])):
        items = read_manifest(manifest, ENCODED_FIELDS)
        unwritten = unwritten_lines(items, alphabet)
        if not unwritten:
            continue
        missing = "".join(sorted(set(str(items[unwritten[0] - 1]["text"])) - alphabet - {" "}))[:20]
        what = (
            f"{manifest}:{unwritten[0]}: {len(unwritten)} of {len(items)} transcripts have characters that the model cannot "
        )
        what += f"write, here {missing!r}"
        if 2 * len(unwritten) >= len(items):
            raise ValueError(f"{what}; write them in the model's characters, as NeMo's own training needs them")
        print(f"{what}; they are trained with what is left of them", flush=True)


def train_adapter(model: Any, name: str, run: TrainingRun) -> None:
    """Trains an adapter that the model has, and saves it.

    Args:
        model: NeMo CTC or hybrid model.
        name: of the adapter.
        run: how.
    """
    adapter: BiasingAdapter = model.encoder.adapter_layer[name]
    model.set_enabled_adapters(enabled=False)
    model.set_enabled_adapters(name, enabled=True)
    model.eval()
    for section, paths in (("train_ds", list(map(str, run.train))), ("validation_ds", str(run.validation or ""))):
        with open_dict(model.cfg):
            model.cfg[section] = {**(model.cfg.get(section) or {}), "manifest_filepath": paths}
    check_transcripts(run, vocabulary_of(ctc_decoding(model)).alphabet)
    part_trainings(adapter, model)  # what is wrong is known before the encoder runs for hours
    caches = [
        encode_manifest(model, adapter, path, copy, run.cache, run.audio_dir)
        for path in run.train
        for copy in range(run.copies)
    ]
    tokenize = tokenizer_of(model)
    train = CachedDataset(caches, tokenize)
    validation = None
    if run.validation is not None:
        held_out = CachedDataset([encode_manifest(model, adapter, run.validation, 0, run.cache, run.audio_dir)], tokenize)
        validation = DataLoader(
            held_out, batch_sampler=FrameBatches(held_out, run.batch_frames, shuffle=False), collate_fn=collate
        )
    batches = FrameBatches(train, run.batch_frames, shuffle=True)
    trainer = Trainer(
        max_steps=run.steps,
        accelerator="auto",
        devices=1,
        logger=TensorBoardLogger(run.log_dir, name="") if run.log_dir else False,
        callbacks=[_SaveAdapter(model, name, run.output)],
        enable_checkpointing=False,
        enable_model_summary=False,
        val_check_interval=min(run.validate_every, run.steps),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=-1,  # measures all of the validation data before training
        gradient_clip_val=1.0,
        log_every_n_steps=20,
        use_distributed_sampler=False,
    )
    trainer.fit(CachedModel(model, adapter, run), DataLoader(train, batch_sampler=batches, collate_fn=collate), validation)


class CachedDataset(Dataset[tuple[list[Tensor], list[int]]]):
    """Cached layers and transcripts of several caches.

    Args:
        caches: of all copies of all manifests.
        tokenize: gives the token ids of a text.
    """

    def __init__(self, caches: Sequence[LayerCache], tokenize: Any) -> None:
        tokens = {u.text: list(tokenize(u.text)) for cache in caches for u in cache.utterances}
        self.items: list[tuple[LayerCache, CachedUtterance, list[int]]] = [
            (cache, u, tokens[u.text]) for cache in caches for u in cache.utterances if u.frames and tokens[u.text]
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[list[Tensor], list[int]]:
        cache, utterance, tokens = self.items[index]
        return cache.read(utterance), tokens


class FrameBatches(Sampler[list[int]]):
    """Batches of like length that hold so many frames.

    Args:
        dataset: what is sampled.
        frames: in a batch, padding included.
        shuffle: draw a new order in every epoch.
    """

    def __init__(self, dataset: CachedDataset, frames: int, shuffle: bool) -> None:
        self._lengths = [utterance.frames for _, utterance, _ in dataset.items]
        self._frames, self._shuffle = frames, shuffle
        self._draw = random.Random(0)
        self._count = len(self._batches(list(range(len(self._lengths)))))

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(len(self._lengths)))
        if self._shuffle:
            self._draw.shuffle(order)
        batches = self._batches(order)
        if self._shuffle:
            self._draw.shuffle(batches)
        return iter(batches)

    def __len__(self) -> int:
        return self._count

    def _batches(self, order: Sequence[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        for start in range(0, len(order), FRAME_SORTING):
            fresh = True
            for k in sorted(order[start : start + FRAME_SORTING], key=self._lengths.__getitem__):
                if fresh or self._lengths[k] * (len(batches[-1]) + 1) > self._frames:
                    batches.append([])
                batches[-1].append(k)
                fresh = False
        return batches


def collate(items: Sequence[tuple[list[Tensor], list[int]]]) -> Batch:
    """Pads a batch."""
    layers = [pad_sequence(list(each), batch_first=True) for each in zip(*(item[0] for item in items), strict=True)]
    tokens = pad_sequence([torch.tensor(item[1]) for item in items], batch_first=True)
    lengths = torch.tensor([len(item[0][0]) for item in items])
    return layers, lengths, tokens, torch.tensor([len(item[1]) for item in items])


class CachedModel(LightningModule):  # type: ignore[misc]
    """A NeMo model without its encoder: batches bring the encoder's layers along.

    Args:
        model: NeMo model, whose adapter is trained.
        adapter: the adapter.
        run: learning rate and number of steps.
    """

    def __init__(self, model: Any, adapter: BiasingAdapter, run: TrainingRun) -> None:
        super().__init__()
        self.model, self.adapter, self.run = model, adapter, run
        self.encoder, self.cfg = model.encoder, model.cfg  # what the callback asks for
        self.decoder, self.decoding = ctc_head(model), ctc_decoding(model)
        self.tokenizer = getattr(model, "tokenizer", None)

    def _step(self, batch: Batch) -> Tensor:
        layers, lengths, tokens, token_lengths = batch
        encoded = layers[-1].transpose(1, 2)
        inputs = {"encoded": encoded, "layers": layers[:-1], "lengths": lengths}
        biased: Tensor = self.adapter.adapter_strategy(inputs, self.adapter, module=self.encoder)  # type: ignore[operator]
        if biased is encoded and self.training:  # there is no bias to learn from
            return encoded.new_zeros(())
        log_probs = self.decoder(encoder_output=biased)
        loss = getattr(self.model, "ctc_loss", self.model.loss)
        return loss(log_probs=log_probs, targets=tokens, input_lengths=lengths, target_lengths=token_lengths)  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """CTC on the biased output, and the adapter's own loss."""
        ctc = self._step(batch)
        own = sum(self.adapter._registry.get("adapter_loss", []))  # type: ignore[operator, union-attr]
        self.adapter.reset_registry()  # type: ignore[operator]
        self.log_dict({"train_ctc": ctc.detach(), "train_adapter": own})
        self.log("train_loss", (ctc + own).detach(), prog_bar=True)
        return ctc + own

    def validation_step(self, batch: Batch, index: int) -> None:
        """CTC on the biased output; the callback adds what it measures."""
        self.log("val_loss", self._step(batch), prog_bar=True, batch_size=len(batch[1]))

    def configure_optimizers(self) -> Any:
        """AdamW on the trained parts of the adapter, with a warm-up and a cosine."""
        trained = [parameter for parameter in self.adapter.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.run.learning_rate, betas=(0.9, 0.98), weight_decay=1e-3)
        rising = max(1, min(200, self.run.steps // 10))

        def factor(step: int) -> float:
            return min((step + 1) / rising, 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.run.steps))))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class _SaveAdapter(Callback):  # type: ignore[misc]
    """Saves the adapter after each validation and at the end."""

    def __init__(self, model: Any, name: str, path: Path) -> None:
        self._model, self._name, self._path = model, name, path

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self._save()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._save()

    def _save(self) -> None:
        adapter = self._model.encoder.adapter_layer[self._name]
        if not all(bool(parameter.isfinite().all()) for parameter in adapter.parameters()):
            raise ValueError(f"{self._path}: training diverged, so that nothing is written; lower --learning-rate")
        self._model.save_adapters(str(self._path), self._name)
