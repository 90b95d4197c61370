"""Draws what a biasing adapter attends to in one utterance: entities over time, and what it changed in the text.

    python scripts/plot_attention.py AUDIO --model MODEL.nemo --adapter adapters.pt --entity-file names.txt \
        --output attention.png

Bright spots show when an entity was attended to; the rows are those with the highest attention. The exit code is 2 if
something cannot be read.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from nemo_bias.entities import read_entities


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", metavar="AUDIO", help="the utterance")
    parser.add_argument("--model", required=True, metavar="MODEL.nemo", help="a CTC or hybrid checkpoint")
    parser.add_argument("--adapter", metavar="FILE", help="its adapter; not needed if the checkpoint holds one")
    parser.add_argument("--entity-file", required=True, metavar="LIST", help="the entity list")
    parser.add_argument("--output", default="attention.png", metavar="PICTURE", help="default: %(default)s")
    parser.add_argument("--entities", type=int, default=12, metavar="N", help="rows, at most (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        for kind, path in (("audio file", options.audio), ("model", options.model)):
            if not Path(path).is_file():
                raise FileNotFoundError(f"no {kind} {path}")
        read_entities(options.entity_file)  # so that a broken list is known before NeMo is imported
        draw(options)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"plot_attention.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def draw(options: argparse.Namespace) -> None:
    """Writes the picture, and says what it shows."""
    from nemo_bias import load_adapter
    from nemo_bias.evaluation.attention_plot import plot_attention
    from nemo_bias.integration.encoder.attention import attention_of

    model = restore(options.model)
    if options.adapter:
        load_adapter(model, options.adapter)
    attention = attention_of(model, options.audio, options.entity_file, options.entities)
    plot_attention(attention, options.output)
    print(f"{options.output}: {attention.seconds:.1f} seconds, {len(attention.entities)} entities")
    print(f"without adapter  {' '.join(word.text for word in attention.words_without)}")
    print(f"with adapter     {' '.join(word.text for word in attention.words)}")


def restore(path: str) -> Any:
    """The model, without NeMo's usual notices."""
    logging.disable(logging.WARNING)
    from nemo.collections.asr.models import ASRModel
    from nemo.utils import logging as nemo_logging

    nemo_logging._logger.addFilter(lambda record: record.levelno >= logging.ERROR)
    return ASRModel.restore_from(path, map_location="cpu").eval()


if __name__ == "__main__":
    sys.exit(main())
