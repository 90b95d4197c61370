"""Draws what a biasing adapter attends to in one utterance: entities over time, and what it changed in the text.

    python scripts/plot_attention.py AUDIO --model MODEL.nemo --adapter adapters.pt --entity-file names.txt \
        --output attention.png

Bright spots show when an entity was attended to; the rows are those with the highest attention. The exit code is 2 if
something cannot be read.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nemo_bias.command_line import command
from nemo_bias.entities import read_entities


@command
def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", metavar="AUDIO", help="the utterance")
    parser.add_argument("--model", required=True, metavar="MODEL.nemo", help="a CTC or hybrid checkpoint")
    parser.add_argument("--adapter", metavar="FILE", help="its adapter; not needed if the checkpoint holds one")
    parser.add_argument("--entity-file", required=True, metavar="LIST", help="the entity list")
    parser.add_argument("--output", default="attention.png", metavar="PICTURE", help="default: %(default)s")
    parser.add_argument("--entities", type=int, default=12, metavar="N", help="rows, at most (default: %(default)s)")
    options = parser.parse_args(arguments)
    for kind, path in (("audio file", options.audio), ("model", options.model)):
        if not Path(path).is_file():
            raise FileNotFoundError(f"no {kind} {path}; check the path")
    read_entities(options.entity_file)  # so that a broken list is known before NeMo is imported
    draw(options)


def draw(options: argparse.Namespace) -> None:
    """Writes the picture, and says what it shows."""
    from nemo_bias import load_adapter
    from nemo_bias.evaluation.attention_plot import plot_attention
    from nemo_bias.integration.encoder.attention import attention_of
    from nemo_bias.integration.model import restore_model

    model = restore_model(options.model, "cpu")
    if options.adapter:
        load_adapter(model, options.adapter)
    attention = attention_of(model, options.audio, options.entity_file, options.entities)
    plot_attention(attention, options.output)
    print(f"{options.output}: {attention.seconds:.1f} seconds, {len(attention.entities)} entities")
    print(f"without adapter  {' '.join(word.text for word in attention.words_without)}")
    print(f"with adapter     {' '.join(word.text for word in attention.words)}")


if __name__ == "__main__":
    sys.exit(main())
