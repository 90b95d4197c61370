"""Check that words keep their endings when their stems are listed.

For each source (the folder that audio paths start with), the list is the stem of every word with an English ending that
greedy decoding writes rightly, and distractors. Prints how many of these words are wrong with the list. Log-probs are a
model's, or come from a file, whose format `nemo_bias.evaluation.log_probs_file` describes.

Examples:
    python scripts/check_endings.py --model M.nemo --manifest dev.jsonl --distractors distractors.txt
    python scripts/check_endings.py --log-probs dev.npz --tokenizer tokenizer.model --manifest dev.jsonl \
        --distractors distractors.txt --show
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from nemo_bias.command_line import command
from nemo_bias.evaluation.arguments import add_data_arguments, audio_dir_of
from nemo_bias.evaluation.comparison import Utterances
from nemo_bias.evaluation.endings import EndingsRow, endings_markdown, measure_endings
from nemo_bias.evaluation.log_probs_file import read_log_probs
from nemo_bias.evaluation.manifest import by_source, read_manifest
from nemo_bias.evaluation.peers import NemoBias
from nemo_bias.evaluation.recogniser import greedy_texts, log_probs_of
from nemo_bias.integration.decoding.nemo_decoders import nemo_vocabulary
from nemo_bias.integration.model import quiet_nemo, restore_ctc_model, sentencepiece_tokenizer


@command
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 2 if an input cannot be used."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.log_probs is None) != (options.tokenizer is None):
        parser.error("give --log-probs and --tokenizer together")
    torch.set_num_threads(1)
    quiet_nemo()
    rows = _measure_all(options)
    print(endings_markdown(rows))
    if options.show:
        for row in rows:
            for lost in row.lost:
                print(f"{row.source}: {lost.word!r} with {', '.join(lost.entities)} in the list: {lost.text}")
    return 0


def _measure_all(options: argparse.Namespace) -> list[EndingsRow]:
    model = restore_ctc_model(options.model) if options.model else None
    vocabulary = nemo_vocabulary(model.tokenizer if model is not None else sentencepiece_tokenizer(options.tokenizer))
    items = read_manifest(options.manifest, ("audio_filepath", "duration", "text"))
    distractors = options.distractors.read_text(encoding="utf-8").splitlines()
    if model is None:
        log_probs = read_log_probs(options.log_probs, len(items), vocabulary.size)
    else:
        log_probs = log_probs_of(model, items, audio_dir_of(options, options.manifest))
    rows = []
    for source, numbers in by_source(items, options.manifest, options.sources, options.manifest.stem).items():
        own = [log_probs[k] for k in numbers]
        data = Utterances([items[k] for k in numbers], own, greedy_texts(own, vocabulary))
        rows.append(measure_endings(NemoBias(vocabulary), source, data, distractors, options.distractor_count))
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Check that words keep their endings when their stems are listed.")
    recogniser = parser.add_mutually_exclusive_group(required=True)
    recogniser.add_argument("--model", type=Path, metavar="M.nemo", help="CTC model of subword tokens")
    recogniser.add_argument(
        "--log-probs",
        type=Path,
        metavar="FILE",
        help=".npz of offsets [utterances + 1] and log_probs or nats_tenths [frames, V], blank last, in manifest order",
    )
    parser.add_argument("--tokenizer", type=Path, metavar="T.model", help="SentencePiece model, for --log-probs")
    parser.add_argument("--manifest", required=True, type=Path, metavar="M.jsonl", help="what is said")
    add_data_arguments(parser)
    parser.add_argument("--distractor-count", type=int, default=1000, metavar="N", help="default: 1000")
    parser.add_argument("--show", action="store_true", help="print each word that is lost, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
