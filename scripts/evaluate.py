"""Score prediction manifests against an entity list and print a Markdown table.

Example:
    python scripts/evaluate.py greedy.jsonl biased.jsonl --entity-file names.txt --baseline greedy.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from nemo_bias.entities import read_entities
from nemo_bias.evaluation import manifest_words, markdown_table, score_manifest


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 2 if an input cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        phrases = [entity.text for entity in read_entities(options.entity_file)]
        known_words = manifest_words(options.train_manifest) if options.train_manifest else None
        scores = {str(path): score_manifest(path, phrases, known_words, options.baseline) for path in options.predictions}
        if options.json:
            report = {name: row.as_dict() for name, row in scores.items()}
            options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"evaluate.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(markdown_table(scores))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="WER, B-WER, U-WER and entity precision, recall and F1, one row per file.")
    parser.add_argument(
        "predictions", nargs="+", type=Path, metavar="PREDICTIONS.jsonl", help="manifests with duration, text, pred_text"
    )
    parser.add_argument(
        "--entity-file",
        required=True,
        type=Path,
        metavar="LIST",
        help="entity list; lower-cased if no reference has an upper-case letter",
    )
    parser.add_argument(
        "--train-manifest", type=Path, metavar="M", help="manifest whose words are known; adds recall on OOV entities"
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="M",
        help="predictions without a list, of the same utterances in the same order; adds words harmed and helped",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write rates and counts here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
