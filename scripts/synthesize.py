r"""Makes synthetic speech for the training of an adapter, as a NeMo manifest with FLAC files of 16 kHz.

    python scripts/synthesize.py --sentences carriers.jsonl --names names.txt --hours 6 --output DIR \
        --exclude dev.jsonl test.jsonl

Writes DIR/manifest.jsonl, DIR/audio/ and DIR/arguments.json. The same command continues a run that was interrupted. Needs
pip install "nemo_bias[synthesis]". The exit code is 2 if an input cannot be used, 130 if the run was interrupted.
"""

from __future__ import annotations

import argparse
import sys

from tqdm import tqdm  # type: ignore[import-untyped]

from nemo_bias.command_line import command
from nemo_bias.synthesis.manifest import SynthesisConfig, SynthesisSummary, synthesize
from nemo_bias.synthesis.speech import LONGEST, SHORTEST

NOTES_SHOWN = 20


@command
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    config = SynthesisConfig(
        options.sentences, options.hours, options.names, tuple(options.exclude), options.insert, options.seed
    )
    bar_format = "{percentage:3.0f}%|{bar}| {n:.2f}/{total:.2f} h of audio [{elapsed}<{remaining}]"
    with tqdm(total=config.hours, bar_format=bar_format) as bar:

        def progress(seconds: float) -> None:
            bar.update(min(seconds / 3600, bar.total - bar.n))  # the last utterance goes beyond the total

        try:
            summary = synthesize(config, options.output, options.workers, progress)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("the same command continues the run") from None
    _print_summary(summary)
    return 0


def _print_summary(summary: SynthesisSummary) -> None:
    material = summary.material
    print(f"{len(material.sentences)} sentences, {material.sentences_excluded} more are excluded")
    excluded = f"{material.names_excluded} more are excluded, {len(material.unwritable)} cannot be written"
    print(f"{len(material.names)} names, {excluded}")
    notes = (*material.unwritable, *material.notes)
    for note in notes[:NOTES_SHOWN]:
        print(f"  {note}")
    if len(notes) > NOTES_SHOWN:
        print(f"  and {len(notes) - NOTES_SHOWN} more notes on names")
    print(f"{summary.not_kept} utterances were not kept, as shorter than {SHORTEST} s or longer than {LONGEST} s")
    made = f"{summary.utterances} utterances ({summary.continued} of an earlier run), {summary.seconds / 3600:.2f} h"
    print(f"{summary.manifest}: {made}, {summary.distinct_entities} distinct entities")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sentences",
        required=True,
        metavar="FILE",
        help="manifest with text, or a text file with a sentence a line; the slots are {name} and the entities of a line",
    )
    parser.add_argument("--names", metavar="LIST", help="entity list that fills the slots; default: spoken as they are")
    parser.add_argument("--hours", required=True, type=float, help="audio to make")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--exclude", nargs="+", default=(), metavar="M", help="manifests whose entities must occur in no sentence or name"
    )
    parser.add_argument(
        "--insert",
        type=float,
        default=0.5,
        metavar="P",
        help="share of sentences without slots in which a name replaces a word; default 0.5",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes; the result does not depend on it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
