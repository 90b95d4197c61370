"""The config node `biased_beam` of a NeMo CTC decoding config."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Optional

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.options import option, typed_config

STRATEGY = "biased_beam"


# OmegaConf reads the annotations, and knows Optional[X] better than X | None.
@dataclass
class BiasedBeamConfig(DecodingOptions):
    """Options of the decoding strategy `biased_beam`, beside those of decoding; docs/options.md has the same table."""

    entity_file: Optional[str] = option(None, "file with the entity list; null: none")  # noqa: UP045
    entity_format: str = option("auto", "its format: auto, text, itemized, tsv, csv, jsonl, ctc_ws, sherpa or aws")
    entities: list[Any] = option(
        [], "more entities, given in the config: strings, or mappings with the keys of a JSONL list"
    )
    entity_field: Optional[str] = option(  # noqa: UP045
        "entities", "manifest field with the entities of one utterance, added to the list above; null: read none"
    )
    adapter: bool = option(True, "whether a biasing adapter that the model has gets the list, too")
    adapter_weight: float = option(1.0, "how strongly the adapter's bias counts")
    adapter_file: Optional[str] = option(None, "adapter to load into the model first; null: none")  # noqa: UP045
    nbest: int = option(1, "hypotheses kept on a Hypothesis' attribute `nbest`")
    threads: int = option(0, "parts of a batch decoded at a time; 0: one a core")

    def check(self) -> None:
        """Refuses wrong values.

        Raises:
            ValueError: the message names the option and what it may be.
        """
        super().check()
        for name, least in (("nbest", 1), ("threads", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not math.isfinite(self.adapter_weight):
            raise ValueError(f"adapter_weight is {self.adapter_weight}; give a finite number")


def biased_beam_config(node: Any) -> BiasedBeamConfig:
    """Reads the node of a decoding config.

    Args:
        node: mapping (OmegaConf or plain), a BiasedBeamConfig, or None for all defaults.

    Raises:
        ValueError: a key is unknown, or a value has the wrong type; the message names the field and the fix.
    """
    return typed_config(BiasedBeamConfig, node, STRATEGY)
