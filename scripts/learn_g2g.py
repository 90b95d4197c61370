"""Learns how a recogniser spells rare words that it does not know: rules for the variants `g2g`.

Runs a checkpoint over a manifest, aligns what it writes with the transcripts, and counts which letters it writes for which.
Take speech that the checkpoint was not trained on, an hour or more. The file serves the decoding option

    g2g_file: RULES.tsv

Examples:
    python scripts/learn_g2g.py --model M.nemo --manifest dev.jsonl --output rules.tsv
    python scripts/learn_g2g.py --log-probs dev.npz --tokenizer tokenizer.model --manifest dev.jsonl --output rules.tsv
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from nemo_bias.command_line import command
from nemo_bias.decoder.frequencies import word_frequencies
from nemo_bias.evaluation.arguments import add_audio_argument, audio_dir_of
from nemo_bias.evaluation.log_probs_file import read_log_probs
from nemo_bias.evaluation.manifest import read_manifest
from nemo_bias.evaluation.recogniser import greedy_texts, log_probs_of
from nemo_bias.integration.decoding.nemo_decoders import nemo_vocabulary
from nemo_bias.integration.model import quiet_nemo, restore_ctc_model, sentencepiece_tokenizer
from nemo_bias.variants.learning import learn_rules, pairs_of
from nemo_bias.variants.rewriting import write_rules

RARE = 4.5  # Zipf frequency below which a word is rare


@command
def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.log_probs is None) != (options.tokenizer is None):
        parser.error("give --log-probs and --tokenizer together")
    torch.set_num_threads(1)
    quiet_nemo()
    print(_learn(options))
    return 0


def _learn(options: argparse.Namespace) -> str:
    """Writes the rules; returns what was found."""
    frequencies = word_frequencies(options.word_frequencies)
    items = read_manifest(options.manifest, ("audio_filepath", "duration", "text"))
    if options.model is not None:
        model = restore_ctc_model(options.model)
        vocabulary = nemo_vocabulary(model.tokenizer)
        log_probs = log_probs_of(model, items, audio_dir_of(options, options.manifest))
    else:
        vocabulary = nemo_vocabulary(sentencepiece_tokenizer(options.tokenizer))
        log_probs = read_log_probs(options.log_probs, len(items), vocabulary.size)
    pairs = [
        (said, written)
        for item, text in zip(items, greedy_texts(log_probs, vocabulary), strict=True)
        for said, written in pairs_of(item["text"], text)
        if min(map(frequencies, said.split())) < RARE
    ]
    wrong = sum(said != written for said, written in pairs)
    rules, understood = learn_rules(pairs)
    if not understood:
        raise ValueError(f"{options.manifest}: no rare word is written in another spelling; take more speech")
    write_rules(options.output, rules, f"Learned from {understood} misspellings of rare words in {options.manifest.name}.")
    kinds = f"{wrong} written otherwise, {understood} of them as another spelling"
    return f"{len(pairs)} rare words, {kinds}; {len(rules)} rules"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recogniser = parser.add_mutually_exclusive_group(required=True)
    recogniser.add_argument("--model", type=Path, metavar="M.nemo", help="CTC model of subword tokens")
    recogniser.add_argument("--log-probs", type=Path, metavar="FILE.npz", help="of the manifest, instead of a model")
    parser.add_argument("--tokenizer", type=Path, metavar="T.model", help="SentencePiece model, for --log-probs")
    parser.add_argument("--manifest", required=True, type=Path, metavar="M.jsonl", help="with text")
    add_audio_argument(parser)
    parser.add_argument("--word-frequencies", default="en", metavar="SOURCE", help="as in decoding; default: %(default)s")
    parser.add_argument("--output", required=True, type=Path, metavar="RULES.tsv")
    return parser


if __name__ == "__main__":
    sys.exit(main())
