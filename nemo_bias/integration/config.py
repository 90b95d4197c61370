"""The config node `biased_beam` of a NeMo CTC decoding config."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

STRATEGY = "biased_beam"
OFF_SWITCH = "NEMO_BIAS"


def switched_off() -> bool:
    """Whether the environment variable NEMO_BIAS says `off` (or `0`, `false`, `no`)."""
    return os.environ.get(OFF_SWITCH, "").strip().lower() in ("off", "0", "false", "no")


def option(default: Any, text: str) -> Any:
    """A field with a default and a help text."""
    return field(
        default_factory=(lambda: list(default)) if isinstance(default, list) else (lambda: default), metadata={"help": text}
    )


# OmegaConf reads the annotations, and knows Optional[X] better than X | None.
@dataclass
class BiasedBeamConfig:
    """Options of the decoding strategy `biased_beam`; README.md has the same table."""

    entity_file: Optional[str] = option(None, "file with the entity list; null: none")  # noqa: UP045
    entity_format: str = option("auto", "its format: auto, text, tsv, jsonl, ctc_ws, sherpa or aws")
    entities: list[Any] = option(
        [], "more entities, given in the config: strings, or mappings with the keys of a JSONL list"
    )
    entity_field: Optional[str] = option(  # noqa: UP045
        "entities", "manifest field with the entities of one utterance, added to the list above; null: read none"
    )
    method: str = option("arcs", "arcs: find entities over the whole utterance; adaptive: boost their subwords in the beam")
    beam_size: int = option(8, "hypotheses kept after each frame")
    weight: float = option(1.0, "how much to trust the list: raise it if names are missed, lower it if they are invented")
    threshold: float = option(0.0, "nats that an entity must earn beyond its due before it is accepted (method arcs)")
    boost: float = option(2.0, "the most that one subword of an entity is raised, in nats (method adaptive)")
    token_margin: float = option(8.0, "subwords further below a frame's best than this many nats are not tried")
    most_tokens: int = option(16, "nor are subwords that are not among this many best of a frame")
    nbest: int = option(1, "hypotheses kept on a Hypothesis' attribute `nbest`")
    threads: int = option(0, "utterances decoded at a time; 0: one a core")


def biased_beam_config(node: Any) -> BiasedBeamConfig:
    """Reads the node of a decoding config.

    Args:
        node: mapping (OmegaConf or plain), a BiasedBeamConfig, or None for all defaults.

    Raises:
        ValueError: a key is unknown, or a value has the wrong type; the message names the field and the fix.
    """
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(node, BiasedBeamConfig):
        return node
    values: Mapping[str, Any] = {} if node is None else node
    if isinstance(values, DictConfig):
        values = OmegaConf.to_container(values, resolve=True)  # type: ignore[assignment]
    known = [f.name for f in dataclasses.fields(BiasedBeamConfig)]
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ValueError(f"{STRATEGY}.{key}: unknown option; {hint}")
    config = OmegaConf.structured(BiasedBeamConfig)
    for key, value in values.items():
        try:
            config[key] = value
        except (OmegaConfBaseException, TypeError) as error:
            raise ValueError(f"{STRATEGY}.{key}: {value!r} does not fit ({str(error).splitlines()[0]})") from error
    return OmegaConf.to_object(config)  # type: ignore[return-value]
