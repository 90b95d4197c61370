"""Compare biased decoders on the same log-probs: each is tuned on dev, then measured on test.

For each source (the folder that audio paths start with) and number of distractors, the list is every entity of the data and
that many distractors. Writes DIR/peers.md and DIR/peers.json, and keeps log-probs in DIR.

Example:
    python scripts/compare_peers.py --model M.nemo --dev dev.jsonl --test test.jsonl --distractors distractors.txt \
        --output report
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from nemo_bias.evaluation.comparison import ComparisonRow, System, Utterances, compare, comparison_json, comparison_markdown
from nemo_bias.evaluation.manifest import read_manifest
from nemo_bias.evaluation.peers import all_systems
from nemo_bias.evaluation.recogniser import cached_log_probs, file_hash
from nemo_bias.integration.model import quiet_nemo, restore_ctc_model

SYSTEMS = ("greedy", "greedy_batch", "beam_batch", "ctc_ws", "pyctcdecode", "nemo_bias", "nemo_bias_adaptive")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 2 if an input cannot be used."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    quiet_nemo()
    try:
        rows = _compare_all(options)
    except (OSError, TypeError, ValueError) as error:
        print(f"compare_peers.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(comparison_markdown(rows))
    return 0


def _compare_all(options: argparse.Namespace) -> list[ComparisonRow]:
    options.output.mkdir(parents=True, exist_ok=True)
    distractors = options.distractors.read_text(encoding="utf-8").splitlines()
    model = restore_ctc_model(options.model)
    systems = _chosen(all_systems(model.tokenizer, options.pyctcdecode_limit), options.systems)
    rows: list[ComparisonRow] = []
    for source in options.sources:
        dev, test = (_utterances(options, model, manifest, source) for manifest in (options.dev, options.test))
        for count in options.sizes:
            with tqdm(desc=f"{source}, {count} distractors", unit="run") as bar:

                def progress(text: str, bar: Any = bar) -> None:
                    bar.update()
                    bar.set_postfix_str(text)

                rows += compare(systems, source, dev, test, distractors, count, progress)
            _write(options, rows)  # after each list, so that a run that is stopped leaves what it found
    return rows


def _chosen(systems: dict[str, System], names: Sequence[str]) -> list[System]:
    unknown = sorted(set(names) - set(systems))
    if unknown:
        raise ValueError(f"--systems: {unknown[0]!r} is none of {', '.join(systems)}")
    return [systems[name] for name in names]


def _utterances(options: argparse.Namespace, model: Any, manifest: Path, source: str) -> Utterances:
    fields = ("audio_filepath", "duration", "text", "entities")
    items = [item for item in read_manifest(manifest, fields) if item["audio_filepath"].split("/")[0] == source]
    if not items:
        raise ValueError(f"{manifest}: no audio_filepath starts with {source}/; change --sources")
    audio_dir = options.audio_dir or manifest.parent.parent / "audio"
    log_probs = cached_log_probs(options.model, model, items[: options.max_utterances], audio_dir, options.output)
    return Utterances(items[: options.max_utterances], log_probs)


def _write(options: argparse.Namespace, rows: Sequence[ComparisonRow]) -> None:
    (options.output / "peers.md").write_text(comparison_markdown(rows) + "\n", encoding="utf-8")
    facts = {
        "model": str(options.model),
        "model_sha256": file_hash(options.model),
        "dev": str(options.dev),
        "test": str(options.test),
        "max_utterances": options.max_utterances,
    }
    (options.output / "peers.json").write_text(comparison_json(rows, **facts), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare biased decoders on the same log-probs.")
    parser.add_argument("--model", required=True, type=Path, metavar="M.nemo", help="CTC model of subword tokens")
    parser.add_argument("--dev", required=True, type=Path, metavar="M.jsonl", help="manifest with entities, to tune on")
    parser.add_argument("--test", required=True, type=Path, metavar="M.jsonl", help="manifest with entities, to measure on")
    parser.add_argument("--distractors", required=True, type=Path, metavar="FILE", help="one phrase a line, in fixed order")
    parser.add_argument("--audio-dir", type=Path, metavar="D", help="default: ../audio beside a manifest's folder")
    parser.add_argument("--sources", type=_names, default=["cv", "ls"], metavar="A,B", help="default: cv,ls")
    parser.add_argument(
        "--sizes", type=_numbers, default=[100, 1000, 10000], metavar="N,N", help="distractors; default: 100,1000,10000"
    )
    parser.add_argument("--systems", type=_names, default=list(SYSTEMS), metavar="A,B", help=f"default: {','.join(SYSTEMS)}")
    parser.add_argument(
        "--pyctcdecode-limit", type=int, default=500, metavar="N", help="most phrases for pyctcdecode; default: 500"
    )
    parser.add_argument("--max-utterances", type=int, metavar="N", help="of each source and split; default: all")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    return parser


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in _names(text)]


if __name__ == "__main__":
    sys.exit(main())
