"""The training of an adapter's contextual part: draws lists, makes the losses, measures the recall of entities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nemo_bias.adapter.config import AdapterTrainingConfig
from nemo_bias.adapter.contextual_adapter import Biasing, ContextualAdapter
from nemo_bias.adapter.entity_encoder import TokenLists
from nemo_bias.adapter.guide import NO_BIAS, Mention
from nemo_bias.adapter.losses import batch_targets, guided_attention_loss, keeping_loss, proposal_loss, spelling_loss
from nemo_bias.adapter.training_lists import TrainingList, TrainingLists
from nemo_bias.entities import Entity, EntityList
from nemo_bias.integration.decoding.strategy import vocabulary_of
from nemo_bias.integration.encoder.adapter_config import ctc_decoding, ctc_head
from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter, Found, Offer
from nemo_bias.integration.encoder.offering import tokenizer_of
from nemo_bias.normalization import normalize_entities

VALIDATION_ENTITIES = 300  # of the list of a validation batch, distractors included


class ContextualTraining:
    """Trains the contextual part; see `PartTraining`.

    Args:
        adapter: has the part.
        model: the NeMo model.
        texts: transcripts of the training set; none if they are not known in advance.
        marked: phrases that are marked as entities, as their author writes them.
        seed: of the drawing.
    """

    def __init__(self, adapter: BiasingAdapter, model: Any, texts: Sequence[str], marked: Sequence[str], seed: int) -> None:
        if adapter.contextual is None:
            raise ValueError("the adapter has no contextual part")
        self._model, self._adapter, self._no_bias = model, adapter, adapter.contextual.config.no_bias
        _start_from_output_layer(adapter.contextual, ctc_head(model))
        vocabulary = vocabulary_of(ctc_decoding(model))
        written = normalize_entities(EntityList(tuple(map(Entity, marked))), vocabulary.alphabet).phrases
        self._lists = TrainingLists(adapter.training_config, vocabulary, written, seed=seed)
        self._lists.learn(map(tokenizer_of(model), texts))
        self._learn_from_batches = not texts
        self._loss: ContextualLoss | None = None
        self._recall: _Recall | None = None

    def draw(self, transcripts: Sequence[Sequence[int]], offer: Offer) -> Offer:
        """Draws the list of a training batch."""
        if self._learn_from_batches:
            self._lists.learn(transcripts)
        drawn = self._lists.draw(transcripts)
        self._loss = ContextualLoss(self._adapter.training_config, self._no_bias, self._model, transcripts, drawn)
        return self._with_list(drawn, offer)

    def loss(self, encoded: Tensor, found: Found) -> Tensor:
        """The losses of what was found in that batch."""
        if self._loss is None or found.biasing is None:
            return encoded.new_zeros(())
        return self._loss(encoded, found.lengths, found.biasing)

    def start_validation(self) -> None:
        """Starts to count entities."""
        self._recall = _Recall(ctc_head(self._model))

    def expect(self, transcripts: Sequence[Sequence[int]], offer: Offer) -> Offer:
        """Offers all that is spoken in a validation batch, and distractors."""
        if self._learn_from_batches and not self._lists.ready:
            self._lists.learn(transcripts)
        drawn = self._lists.everything(transcripts, VALIDATION_ENTITIES)
        if self._recall is not None:
            self._recall.expect(transcripts, drawn)
        return self._with_list(drawn, offer)

    def count(self, found: Found | None) -> None:
        """Counts what greedy decoding recognised in that batch."""
        if self._recall is not None:
            self._recall.count()

    def end_validation(self) -> dict[str, float]:
        """The entity recall of greedy decoding with the adapter."""
        if self._recall is None:
            return {}
        recall, self._recall = self._recall, None
        recall.close()
        return recall.rates()

    def _with_list(self, drawn: TrainingList, offer: Offer) -> Offer:
        if not drawn.entities:
            return offer
        device = self._model.device
        return offer._replace(
            entities=TokenLists.of(drawn.entities, device),
            offered=torch.from_numpy(drawn.offered).to(device),
            required=torch.from_numpy(drawn.spoken).to(device),
        )


class ContextualLoss:
    """The contextual part's own loss of one batch.

    Args:
        config: weights of its terms.
        no_bias: whether attention can go to no entity.
        model: the NeMo model.
        transcripts: token ids of each utterance.
        drawn: the list of the batch.
    """

    def __init__(
        self,
        config: AdapterTrainingConfig,
        no_bias: bool,
        model: Any,
        transcripts: Sequence[Sequence[int]],
        drawn: TrainingList,
    ) -> None:
        self._config, self._no_bias = config, no_bias
        self._decoder = ctc_head(model)
        self._blank = ctc_decoding(model).blank_id
        self._transcripts, self._drawn = transcripts, drawn

    def __call__(self, encoded: Tensor, lengths: Tensor, biasing: Biasing) -> Tensor:
        """The sum of the terms, each times its weight, given the encoder's output [B, D, T] and its lengths [B]."""
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


def _start_from_output_layer(contextual: ContextualAdapter, decoder: Any) -> None:
    """Subword embeddings of a new adapter start as the recogniser's own output weights, normalised, if the widths agree."""
    embedding = contextual.encoder.embedding.weight
    layers = getattr(decoder, "decoder_layers", None)
    if contextual.output.weight.any() or layers is None:
        return
    rows = layers[0].weight[: len(embedding), :, 0]
    if rows.shape == embedding.shape:
        with torch.no_grad():
            embedding.copy_((rows - rows.mean(dim=0)) / rows.std())
