"""The adapter that NeMo attaches to an encoder: one module for the whole encoder, not one a layer.

While entities are offered (`BiasingAdapter.offer`), forward hooks collect the outputs of the tapped encoder layers, and a
hook on the encoder adds the adapter's bias to its output. Without entities, or disabled, the hooks return at once and
the encoder's output is the very tensor that it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from nemo.collections.common.parts.adapter_modules import AdapterModuleUtil
from nemo.core.classes.mixins.adapter_mixin_strategies import AbstractAdapterStrategy
from torch import Tensor, nn

from nemo_bias.adapter.config import AdapterTrainingConfig, ContextualAdapterConfig
from nemo_bias.adapter.contextual_adapter import Biasing, ContextualAdapter
from nemo_bias.adapter.entity_encoder import EncodedEntities, TokenLists
from nemo_bias.integration.encoder.adapter_config import RecogniserConfig, tapped_layers
from nemo_bias.integration.switch import switched_off
from nemo_bias.options import typed_config

REMEMBERED_LISTS = 100


class Offer(NamedTuple):
    """The entities of the next batches.

    Attributes:
        entities: of all lists of a batch, M in all: encoded, or (in training) still to be encoded.
        offered: [B, M] which of them are in an utterance's list; None: all, whatever the batch.
        required: [B, M] which of them get the full attention in any case (training); None: none.
        weight: multiplies the bias.
    """

    entities: EncodedEntities | TokenLists
    offered: Tensor | None = None
    required: Tensor | None = None
    weight: float = 1.0


class Supervisor(Protocol):
    """What training adds to the recogniser's own loss."""

    def loss(self, encoded: Tensor, lengths: Tensor, biasing: Biasing) -> Tensor:
        """A loss for what was found, given the encoder's output [B, D, T] without bias and its lengths [B]."""


class AddToOutput(AbstractAdapterStrategy):  # type: ignore[misc]
    """Adds the bias to the encoder's output: `input` has the keys `encoded` [B, D, T], `layers` and `lengths`."""

    def forward(self, input: Any, adapter: Any, *, module: Any) -> Tensor:
        """The biased output [B, D, T]."""
        biasing = adapter(input["layers"], input["lengths"])
        adapter.observe(input["encoded"], input["lengths"], biasing)
        return input["encoded"] + biasing.bias.transpose(1, 2).to(input["encoded"].dtype)  # type: ignore[no-any-return]


class BiasingAdapter(nn.Module, AdapterModuleUtil):  # type: ignore[misc]
    """Biases an encoder towards offered entities.

    Args:
        contextual: sizes of the contextual adapter.
        training: how it is trained.
        recogniser: the recogniser that it belongs to.

    Raises:
        ValueError: an option is unknown or wrong, or the adapter was not added through `model.add_adapter`.
    """

    def __init__(self, contextual: Any = None, training: Any = None, recogniser: Any = None) -> None:
        super().__init__()
        self.training_config = typed_config(AdapterTrainingConfig, training, "adapter.training")
        self.recogniser = typed_config(RecogniserConfig, recogniser, "adapter.recogniser")
        config = typed_config(ContextualAdapterConfig, contextual, "adapter.contextual")
        if not self.recogniser.width:
            raise ValueError("adapter.recogniser is empty; add the adapter with model.add_adapter, which fills it in")
        self.tapped = tapped_layers(config, self.recogniser.encoder_layers)
        self.contextual = ContextualAdapter(
            config,
            layers=len(self.tapped),
            width=self.recogniser.width,
            output_width=self.recogniser.output_width,
            vocabulary_size=self.recogniser.vocabulary_size,
        )
        self.setup_adapter_strategy(AddToOutput())  # type: ignore[operator]
        self.supervisor: Supervisor | None = None  # set while training
        self.found: Biasing | None = None  # in the last batch, in evaluation mode
        self._offer: Offer | None = None
        self._name = ""
        self._encoded: dict[tuple[str, ...], EncodedEntities] = {}
        self._encoded_state: Any = None  # device and versions of the weights that made them
        self._outputs: dict[int, Tensor] | None = None  # of the tapped layers, while they are wanted

    def offer(self, offer: Offer | None) -> None:
        """Sets the entities of the next batches; None: no bias."""
        self._offer = offer

    def encode(self, phrases: tuple[str, ...], tokenize: Callable[[str], Sequence[int]]) -> EncodedEntities:
        """Encodes a list; the last lists are remembered as long as the weights do not change.

        Args:
            phrases: in the characters of the recogniser.
            tokenize: gives the token ids of a phrase.
        """
        parameters = list(self.contextual.encoder.parameters())
        state = (parameters[0].device, *(parameter._version for parameter in parameters))
        if state != self._encoded_state or len(self._encoded) >= REMEMBERED_LISTS:
            self._encoded.clear()
            self._encoded_state = state
        if phrases not in self._encoded:
            tokens = [tuple(tokenize(phrase)) or (0,) for phrase in phrases]
            with torch.no_grad():
                self._encoded[phrases] = self.contextual.encode(TokenLists.of(tokens, parameters[0].device))
        return self._encoded[phrases]

    def forward(self, layers: list[Tensor], lengths: Tensor) -> Biasing:
        """Attends to the offered entities; see `ContextualAdapter.forward`."""
        if self._offer is None:
            raise RuntimeError("no entities are offered to the adapter")
        entities, offered, required, weight = self._offer
        if isinstance(entities, TokenLists):
            entities = self.contextual.encode(entities)
        found: Biasing = self.contextual(layers, lengths, entities, offered, required)
        return found if weight == 1.0 else found._replace(bias=weight * found.bias)

    def attach(self, encoder: nn.Module, name: str) -> None:
        """Registers the hooks on an encoder, which knows this adapter by a name."""
        self._name = name
        self.model_guid = getattr(encoder, "model_guid", None)  # under which NeMo looks for its loss
        encoder.register_forward_pre_hook(self._before)
        for layer in self.tapped:
            encoder.layers[layer - 1].register_forward_hook(partial(self._keep, layer))  # type: ignore[index, operator, union-attr]
        encoder.register_forward_hook(self._after)

    def _before(self, encoder: Any, args: Any) -> None:
        self.found = None
        active = self._offer is not None and encoder.adapter_cfg[self._name].get("enabled", True) and not switched_off()
        self._outputs = {} if active else None

    def _keep(self, layer: int, module: nn.Module, args: Any, output: Any) -> None:
        if self._outputs is not None:
            self._outputs[layer] = output[0] if isinstance(output, tuple) else output

    def _after(self, encoder: Any, args: Any, output: Any) -> Any:
        if self._outputs is None:
            return None
        layers, self._outputs = [self._outputs[layer] for layer in self.tapped], None
        encoded, lengths = output[0], output[1]
        biased = self.adapter_strategy({"encoded": encoded, "layers": layers, "lengths": lengths}, self, module=encoder)  # type: ignore[operator]
        return (biased, *output[1:])

    def observe(self, encoded: Tensor, lengths: Tensor, biasing: Biasing) -> None:
        """Keeps what was found, or in training makes a loss of it, which NeMo adds to its own."""
        if not self.training:
            self.found = biasing
        elif self.supervisor is not None:
            loss = self.supervisor.loss(encoded, lengths, biasing)
            self.register_accessible_tensor("adapter_loss", loss)  # type: ignore[operator]
            self.set_access_enabled(access_enabled=True, guid=self.model_guid)  # type: ignore[operator]


def biasing_adapters(model: Any) -> dict[str, BiasingAdapter]:
    """The biasing adapters of a NeMo model by name, enabled or not."""
    layers = getattr(getattr(model, "encoder", None), "adapter_layer", {})
    return {name: module for name, module in layers.items() if isinstance(module, BiasingAdapter)}


def enabled_adapters(model: Any) -> list[BiasingAdapter]:
    """The biasing adapters of a NeMo model that are enabled."""
    return [
        adapter
        for name, adapter in biasing_adapters(model).items()
        if model.encoder.adapter_cfg[name].get("enabled", True) and not switched_off()
    ]
