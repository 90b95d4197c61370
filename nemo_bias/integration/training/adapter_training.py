"""Trains a biasing adapter in any Lightning trainer: draws lists, freezes the recogniser, adds a loss, measures recall.

Lightning finds the callback by the package's entry point, so NeMo's own training scripts run it unmodified. It does nothing
for a model without an enabled biasing adapter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn

from nemo_bias.adapter.contextual_adapter import Biasing
from nemo_bias.adapter.entity_encoder import TokenLists
from nemo_bias.adapter.guide import NO_BIAS, Mention
from nemo_bias.adapter.losses import batch_targets, guided_attention_loss, keeping_loss, proposal_loss, spelling_loss
from nemo_bias.adapter.training_lists import TrainingList, TrainingLists
from nemo_bias.integration.decoding.strategy import vocabulary_of
from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter, Offer, enabled_adapters
from nemo_bias.integration.encoder.offering import tokenizer_of

VALIDATION_ENTITIES = 300  # of the list of a validation batch, distractors included


class AdapterTraining(Callback):  # type: ignore[misc]
    """Trains the enabled biasing adapter of a NeMo CTC or hybrid model, and nothing else of it."""

    def __init__(self) -> None:
        self._adapter: BiasingAdapter | None = None
        self._lists: TrainingLists | None = None
        self._learn_from_batches = False
        self._validation: _Recall | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Freezes the recogniser, before Lightning wraps the model for several processes."""
        adapters = enabled_adapters(pl_module)
        self._adapter = adapters[0] if adapters and stage == "fit" else None
        if self._adapter is None:
            return
        if len(adapters) > 1:
            raise ValueError("more than one biasing adapter is enabled; disable all but the one to be trained")
        own = {id(parameter) for parameter in self._adapter.parameters()}
        for parameter in pl_module.parameters():
            parameter.requires_grad_(id(parameter) in own)
        _start_from_output_layer(self._adapter, _ctc_decoder(pl_module))
        vocabulary = vocabulary_of(_ctc_decoding(pl_module))
        texts, marked = _read_manifests(pl_module)
        self._lists = TrainingLists(self._adapter.training_config, vocabulary, marked, seed=trainer.global_rank)
        self._lists.learn(map(tokenizer_of(pl_module), texts))
        self._learn_from_batches = not texts

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Draws the list of the batch."""
        if self._adapter is None or self._lists is None:
            return
        _set_modes(pl_module, self._adapter)
        transcripts = _transcripts(batch)
        if self._learn_from_batches:
            self._lists.learn(transcripts)
        drawn = self._lists.draw(transcripts)
        self._adapter.supervisor = AdapterLoss(self._adapter, pl_module, transcripts, drawn)
        self._adapter.offer(_offer(drawn, pl_module.device))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Withdraws the list."""
        if self._adapter is not None:
            self._adapter.offer(None)
            self._adapter.supervisor = None

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Starts to count entities."""
        if self._adapter is not None and self._lists is not None:
            self._validation = _Recall(_ctc_decoder(pl_module))

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Offers all that is spoken in the batch, and distractors."""
        if self._adapter is not None and self._lists is not None and self._validation is not None:
            transcripts = _transcripts(batch)
            if self._learn_from_batches and not self._lists.ready:
                self._lists.learn(transcripts)
            drawn = self._lists.everything(transcripts, VALIDATION_ENTITIES)
            self._validation.expect(transcripts, drawn)
            self._adapter.offer(_offer(drawn, pl_module.device))

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Counts what was recognised."""
        if self._adapter is not None and self._validation is not None:
            self._adapter.offer(None)
            self._validation.count()

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Logs the entity recall of greedy decoding, with the adapter and without."""
        if self._validation is not None:
            for name, value in self._validation.rates().items():
                pl_module.log(name, value, prog_bar=True, sync_dist=True)
            self._validation.close()
            self._validation = None


class AdapterLoss:
    """The adapter's own loss of one batch.

    Args:
        adapter: what is trained.
        model: the NeMo model.
        transcripts: token ids of each utterance.
        drawn: the list of the batch.
    """

    def __init__(
        self, adapter: BiasingAdapter, model: Any, transcripts: Sequence[Sequence[int]], drawn: TrainingList
    ) -> None:
        self._config = adapter.training_config
        self._no_bias = adapter.contextual.config.no_bias
        self._decoder = _ctc_decoder(model)
        self._blank = _ctc_decoding(model).blank_id
        self._transcripts, self._drawn = transcripts, drawn

    def loss(self, encoded: Tensor, lengths: Tensor, biasing: Biasing) -> Tensor:
        """The sum of the losses, each times its weight."""
        config = self._config
        with torch.no_grad():
            unbiased = self._decoder(encoder_output=encoded).float()
        targets = batch_targets(unbiased.cpu().numpy(), lengths.tolist(), self._transcripts, self._drawn, self._blank).to(
            encoded.device
        )
        guided = targets
        if not self._no_bias:  # attention has nowhere to go where no entity is spoken
            guided = targets._replace(counted=targets.counted & (targets.entity != NO_BIAS))
        biased = self._decoder(encoder_output=encoded + biasing.bias.transpose(1, 2).to(encoded.dtype)).float()
        return (
            config.proposal_weight * self._proposal_loss(biasing)
            + config.guide_weight * guided_attention_loss(biasing, guided, config.spoken_share)
            + config.spelling_weight * spelling_loss(biased, targets, self._blank)
            + config.keep_weight * keeping_loss(unbiased, biased, targets)
        )

    def _proposal_loss(self, biasing: Biasing) -> Tensor:
        scores = biasing.proposal_scores
        if scores is None:
            raise ValueError("the adapter was not in training mode")
        offered, spoken = (torch.from_numpy(each).to(scores.device) for each in (self._drawn.offered, self._drawn.spoken))
        return proposal_loss(scores, offered, spoken)


class _Recall:
    """Counts the entities that greedy decoding recognises; listens at the CTC decoder."""

    def __init__(self, decoder: nn.Module) -> None:
        self._found, self._spoken = 0, 0
        self._log_probs: Tensor | None = None
        self._transcripts: Sequence[Sequence[int]] = ()
        self._mentions: Sequence[Sequence[Mention]] = ()
        self._blank = -1
        self._hook = decoder.register_forward_hook(self._listen)

    def _listen(self, module: nn.Module, args: Any, output: Tensor) -> None:
        if self._log_probs is None:  # later calls are those of inter-CTC layers
            self._log_probs = output

    def expect(self, transcripts: Sequence[Sequence[int]], drawn: TrainingList) -> None:
        """Remembers what is spoken in the batch that comes."""
        self._transcripts, self._mentions = transcripts, drawn.mentions
        self._log_probs = None

    def count(self) -> None:
        """Counts the mentions that the labels of the batch write, as often as they are spoken at most."""
        if self._log_probs is None:
            return
        blank = self._log_probs.shape[-1] - 1
        for labels, transcript, mentions in zip(
            self._log_probs.argmax(dim=-1).tolist(), self._transcripts, self._mentions, strict=True
        ):
            written = [label for k, label in enumerate(labels) if label != blank and (k == 0 or labels[k - 1] != label)]
            text = " " + " ".join(map(str, written)) + " "
            for mention in mentions:
                tokens = " " + " ".join(map(str, transcript[mention.first : mention.end])) + " "
                self._spoken += 1
                if tokens in text:
                    self._found += 1
                    text = text.replace(tokens, " ", 1)
        self._log_probs = None

    def rates(self) -> dict[str, float]:
        """What is logged."""
        return {"val_entity_recall": self._found / max(1, self._spoken)}

    def close(self) -> None:
        """Stops listening."""
        self._hook.remove()


def _offer(drawn: TrainingList, device: torch.device) -> Offer | None:
    if not drawn.entities:
        return None
    return Offer(
        TokenLists.of(drawn.entities, device),
        torch.from_numpy(drawn.offered).to(device),
        torch.from_numpy(drawn.spoken).to(device),
    )


def _set_modes(model: Any, adapter: BiasingAdapter) -> None:
    """Everything but the adapter (and SpecAugment) in evaluation mode: no dropout, no change of batch-norm statistics."""
    for child in model.children():
        if child is not getattr(model, "spec_augmentation", None):
            child.eval()
    adapter.train()


def _start_from_output_layer(adapter: BiasingAdapter, decoder: Any) -> None:
    """Subword embeddings of a new adapter start as the recogniser's own output weights, normalised, if the widths agree."""
    contextual = adapter.contextual
    embedding = contextual.encoder.embedding.weight
    layers = getattr(decoder, "decoder_layers", None)
    if contextual.output.weight.any() or layers is None:
        return
    rows = layers[0].weight[: len(embedding), :, 0]
    if rows.shape == embedding.shape:
        with torch.no_grad():
            embedding.copy_((rows - rows.mean(dim=0)) / rows.std())


def _ctc_decoder(model: Any) -> Any:
    return getattr(model, "ctc_decoder", model.decoder)


def _ctc_decoding(model: Any) -> Any:
    return getattr(model, "ctc_decoding", model.decoding)


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
            marked += [entities] if isinstance(entities, str) else [e for e in entities if isinstance(e, str)]
    return texts, marked


def _manifest_items(section: Any) -> Iterator[dict[str, Any]]:
    paths = section.get("manifest_filepath") or []
    for path in paths.split(",") if isinstance(paths, str) else paths:
        try:
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    item = json.loads(line) if line.strip() else {}
                    yield item if isinstance(item, dict) else {}
        except (OSError, ValueError, TypeError):
            return  # a sharded or tarred set, or a broken file, on which NeMo has its say
