"""The adapter that NeMo attaches to an encoder: one module for the whole encoder, not one a layer.

It has a contextual part, a phone head, or both. While something is wanted of it (`BiasingAdapter.offer`), forward hooks
collect the outputs of the tapped encoder layers, and a hook on the encoder runs the parts that are wanted: the contextual
one adds its bias to the encoder's output, the phone head leaves it alone. Otherwise, or disabled, the hooks return at once
and the encoder's output is the very tensor that it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from nemo.collections.common.parts.adapter_modules import AdapterModuleUtil
from nemo.core.classes.mixins.adapter_mixin_strategies import AbstractAdapterStrategy
from torch import Tensor, nn

from nemo_bias.adapter.contextual_adapter import Biasing, ContextualAdapter
from nemo_bias.adapter.entity_encoder import EncodedEntities, TokenLists
from nemo_bias.adapter.phone_head import PhoneHead
from nemo_bias.integration.batch import attach, attached
from nemo_bias.integration.encoder.adapter_config import adapter_config, phone_layer, query_layers
from nemo_bias.integration.switch import switched_off

REMEMBERED_LISTS = 100


class Offer(NamedTuple):
    """What is wanted in the next batches.

    Attributes:
        entities: of all lists of a batch, M in all: encoded, or (in training) still to be encoded; None: no bias.
        offered: [B, M] which of them are in an utterance's list; None: all, whatever the batch.
        required: [B, M] which of them get the full attention in any case (training); None: none.
        weight: multiplies the bias.
        phones: whether the phone head is to listen.
    """

    entities: EncodedEntities | TokenLists | None = None
    offered: Tensor | None = None
    required: Tensor | None = None
    weight: float = 1.0
    phones: bool = False

    @property
    def wanted(self) -> bool:
        """Whether anything is."""
        return self.entities is not None or self.phones


class Found(NamedTuple):
    """What an adapter found in a batch.

    Attributes:
        lengths: [B] encoder frames of each utterance.
        biasing: of the contextual part; None if no entities were offered.
        phones: log-probs [B, T * sub_frames, phones + 1] of the phone head, the blank last; None if it was not to listen.
    """

    lengths: Tensor
    biasing: Biasing | None
    phones: Tensor | None


class Supervisor(Protocol):
    """What training adds to the recogniser's own loss."""

    def loss(self, encoded: Tensor, found: Found) -> Tensor:
        """A loss for what was found, given the encoder's output [B, D, T] without bias."""


class AddToOutput(AbstractAdapterStrategy):  # type: ignore[misc]
    """Adds the bias to the encoder's output: `input` has the keys `encoded` [B, D, T], `layers` and `lengths`."""

    def forward(self, input: Any, adapter: Any, *, module: Any) -> Tensor:
        """The biased output [B, D, T]; the very tensor `encoded` if there is no bias."""
        found = adapter(input["layers"], input["lengths"])
        encoded: Tensor = input["encoded"]
        adapter.observe(encoded, found)
        biased = encoded if found.biasing is None else encoded + found.biasing.bias.transpose(1, 2).to(encoded.dtype)
        if not adapter.training:
            before = attached(encoded)  # by an adapter that came first
            phones = found.phones if before.phones is None else before.phones
            plain = encoded if before.plain is None and biased is not encoded else before.plain
            attach(biased, plain=plain, phones=None if phones is None else phones.detach())
        return biased


class _InThread(threading.local):
    """What an adapter does in the batch that a thread is encoding; nothing of it is copied or saved.

    Attributes:
        offer: what is wanted.
        found: what was found in the last batch, in evaluation mode.
        outputs: of the tapped layers, while they are wanted.
    """

    offer: Offer | None = None
    found: Found | None = None
    outputs: dict[int, Tensor] | None = None

    def __reduce__(self) -> tuple[type[_InThread], tuple[()]]:
        return _InThread, ()


class BiasingAdapter(nn.Module, AdapterModuleUtil):  # type: ignore[misc]
    """Biases an encoder towards offered entities, and tells which phones are spoken.

    Args:
        options: fields of `BiasingAdapterConfig`.

    Raises:
        ValueError: an option is unknown or wrong, or the adapter was not added through `model.add_adapter`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()
        config = adapter_config(options)
        self.training_config = config.training
        self.recogniser = config.recogniser
        if not self.recogniser.width:
            raise ValueError("adapter.recogniser is empty; add the adapter with model.add_adapter, which fills it in")
        self.contextual: ContextualAdapter | None = None
        self.phones: PhoneHead | None = None
        self._query_layers: list[int] = []
        self._phone_layer = 0
        if config.contextual is not None:
            self._query_layers = query_layers(config.contextual, self.recogniser.encoder_layers)
            self.contextual = ContextualAdapter(
                config.contextual,
                layers=len(self._query_layers),
                width=self.recogniser.width,
                output_width=self.recogniser.output_width,
                vocabulary_size=self.recogniser.vocabulary_size,
            )
        if config.phones is not None:
            self._phone_layer = phone_layer(config.phones, self.recogniser.encoder_layers)
            self.phones = PhoneHead(config.phones, self.recogniser.width)
        self.tapped = sorted({*self._query_layers, *([self._phone_layer] if self.phones is not None else [])})
        self.setup_adapter_strategy(AddToOutput())  # type: ignore[operator]
        self.supervisor: Supervisor | None = None  # set while training
        self._now = _InThread()
        self.name = ""
        self._hooks: list[Any] = []
        self._encoded: dict[tuple[str, ...], EncodedEntities] = {}
        self._encoded_state: Any = None  # device and versions of the weights that made them

    def trained_parts(self) -> dict[str, nn.Module]:
        """The parts that the adapter has and that its config asks to train, by name.

        Raises:
            ValueError: there are none.
        """
        parts: dict[str, nn.Module | None] = {"contextual": self.contextual, "phones": self.phones}
        trained = {name: part for name, part in parts.items() if part is not None and name in self.training_config.parts}
        if not trained:
            raise ValueError(f"adapter.training.parts is {self.training_config.parts}, of which the adapter has none")
        return trained

    def offer(self, offer: Offer | None) -> None:
        """Says what is wanted in the next batches of this thread; None, or an offer of nothing: nothing.

        Raises:
            ValueError: it is wanted of a part that the adapter does not have.
        """
        if offer is None or not offer.wanted:
            self._now.offer = None
            return
        if offer.entities is not None and self.contextual is None:
            raise ValueError("the adapter has no contextual part")
        if offer.phones and self.phones is None:
            raise ValueError("the adapter has no phone head")
        self._now.offer = offer

    @property
    def active(self) -> bool:
        """Whether anything is wanted in the next batches of this thread."""
        return self._now.offer is not None

    @property
    def found(self) -> Found | None:
        """What was found in the last batch of this thread, in evaluation mode."""
        return self._now.found

    def forget(self) -> None:
        """Lets go of what was found."""
        self._now.found = None

    def encode(self, phrases: tuple[str, ...], tokenize: Callable[[str], Sequence[int]]) -> EncodedEntities:
        """Encodes a list; the last lists are remembered as long as the weights do not change.

        Args:
            phrases: in the characters of the recogniser.
            tokenize: gives the token ids of a phrase.

        Raises:
            ValueError: the adapter has no contextual part.
        """
        if self.contextual is None:
            raise ValueError("the adapter has no contextual part")
        parameters = list(self.contextual.encoder.parameters())
        state = (parameters[0].device, *(parameter._version for parameter in parameters))
        if state != self._encoded_state or len(self._encoded) >= REMEMBERED_LISTS:
            self._encoded = {}  # another thread may be at work with the old ones
            self._encoded_state = state
        encoded = self._encoded.get(phrases)
        if encoded is None:
            tokens = [tuple(tokenize(phrase)) or (0,) for phrase in phrases]
            with torch.no_grad():
                encoded = self.contextual.encode(TokenLists.of(tokens, parameters[0].device))
            self._encoded[phrases] = encoded
        return encoded

    def forward(self, layers: Sequence[Tensor], lengths: Tensor) -> Found:
        """Finds what is wanted.

        Args:
            layers: outputs of the `tapped` layers in their order, [B, T, width] each.
            lengths: [B] frames of each utterance.
        """
        if self._now.offer is None:
            raise RuntimeError("nothing is offered to the adapter")
        entities, offered, required, weight, phones = self._now.offer
        output_of = dict(zip(self.tapped, layers, strict=True))
        biasing = None
        if self.contextual is not None and entities is not None:
            if isinstance(entities, TokenLists):
                entities = self.contextual.encode(entities)
            query = [output_of[layer] for layer in self._query_layers]
            biasing = self.contextual(query, lengths, entities, offered, required)
            biasing = biasing if weight == 1.0 else biasing._replace(bias=weight * biasing.bias)
        heard = self.phones(output_of[self._phone_layer], lengths) if self.phones is not None and phones else None
        return Found(lengths, biasing, heard)

    def attach(self, encoder: nn.Module, name: str) -> None:
        """Registers the hooks on an encoder, which knows this adapter by a name."""
        self.name = name
        self.model_guid = getattr(encoder, "model_guid", None)  # under which NeMo looks for its loss
        self._hooks = [encoder.register_forward_pre_hook(self._before)]
        for layer in self.tapped:
            self._hooks.append(encoder.layers[layer - 1].register_forward_hook(partial(self._keep, layer)))  # type: ignore[index, operator, union-attr]
        self._hooks.append(encoder.register_forward_hook(self._after))

    def detach(self) -> None:
        """Removes the hooks."""
        while self._hooks:
            self._hooks.pop().remove()

    def _before(self, encoder: Any, args: Any) -> None:
        self.forget()
        active = self.active and encoder.adapter_cfg[self.name].get("enabled", True) and not switched_off()
        self._now.outputs = {} if active else None

    def _keep(self, layer: int, module: nn.Module, args: Any, output: Any) -> None:
        if self._now.outputs is not None:
            self._now.outputs[layer] = output[0] if isinstance(output, tuple) else output

    def _after(self, encoder: Any, args: Any, output: Any) -> Any:
        outputs, self._now.outputs = self._now.outputs, None
        if outputs is None:
            return None
        layers = [outputs[layer] for layer in self.tapped]
        encoded, lengths = output[0], output[1]
        biased = self.adapter_strategy({"encoded": encoded, "layers": layers, "lengths": lengths}, self, module=encoder)  # type: ignore[operator]
        return (biased, *output[1:])

    def observe(self, encoded: Tensor, found: Found) -> None:
        """Keeps what was found, or in training makes a loss of it, which NeMo adds to its own."""
        if not self.training:
            self._now.found = found
        elif self.supervisor is not None:
            loss = self.supervisor.loss(encoded, found)
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
