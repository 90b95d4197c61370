"""Score prediction manifests against an entity list and print a Markdown table.

The list is written as decoding writes it in the characters of the texts. With --details, the entities that were found,
missed and invented come first, utterance by utterance.

Example:
    python scripts/evaluate.py greedy.jsonl biased.jsonl --entity-file names.txt --baseline greedy.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from nemo_bias.command_line import command
from nemo_bias.entities import FORMATS, read_entities
from nemo_bias.evaluation import manifest_words, markdown_table, score_manifest
from nemo_bias.evaluation.details import details_text
from nemo_bias.evaluation.manifest import read_predictions
from nemo_bias.evaluation.written_lists import written_list
from nemo_bias.languages import ENGLISH


@command
def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    options = _parser().parse_args(arguments)
    entities = read_entities(options.entity_file, options.format)
    known_words = manifest_words(options.train_manifest) if options.train_manifest else None
    scores = {
        str(path): score_manifest(path, entities, known_words, options.baseline, options.language)
        for path in options.predictions
    }
    if options.json:
        report = {name: row.as_dict() for name, row in scores.items()}
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for note in entities.notes:
        print(note, file=sys.stderr)
    if not len(entities):
        print(f"{options.entity_file}: the list is empty, so that nothing is counted", file=sys.stderr)
    for path in options.predictions:
        items = read_predictions(path)
        listed = written_list(
            entities, (text for item in items for text in (item["text"], item["pred_text"])), options.language
        )
        for note in listed.unwritable:
            print(f"{note.replace('by this model', f'in the characters of {path}')}; it does not count", file=sys.stderr)
        if options.details:
            print(f"{path}\n{details_text(items, listed.phrases)}\n")
    print(markdown_table(scores))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="WER, B-WER, U-WER and entity precision, recall and F1, one row per file.")
    parser.add_argument(
        "predictions", nargs="+", type=Path, metavar="PREDICTIONS.jsonl", help="manifests with duration, text, pred_text"
    )
    parser.add_argument(
        "--entity-file", required=True, type=Path, metavar="LIST", help="entity list, in any format that decoding takes"
    )
    parser.add_argument("--format", default="auto", choices=("auto", *FORMATS), help="of the list")
    parser.add_argument("--language", default=ENGLISH, metavar="CODE", help="of the list (default: %(default)s)")
    parser.add_argument(
        "--train-manifest", type=Path, metavar="M", help="manifest whose words are known; adds recall on OOV entities"
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="M",
        help="predictions without a list, of the same utterances in the same order; adds words harmed and helped",
    )
    parser.add_argument("--details", action="store_true", help="list what was found, missed and invented")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write rates and counts here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
