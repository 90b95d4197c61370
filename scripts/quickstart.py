"""Transcribes the bundled clips without and with their entity list, and shows the difference.

scripts/quickstart [--json FILE] [--model MODEL.nemo] [--weight 1.0]
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

DEMO = Path(__file__).resolve().parent / "demo"


def main() -> None:
    """Prints each clip's reference, text before and text after, then the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write the results to FILE")
    parser.add_argument("--model", default=str(DEMO / "demo.nemo"), help="another NeMo CTC checkpoint")
    parser.add_argument("--weight", type=float, default=1.0, help="how much to trust the list")
    args = parser.parse_args()

    print("Loading NeMo ...", flush=True)
    from nemo_bias import read_entities, set_entities
    from nemo_bias.evaluation import read_manifest, score

    model = quiet_restore(args.model)
    clips = read_manifest(DEMO / "clips.jsonl")
    audio = [str(DEMO / clip["audio_filepath"]) for clip in clips]
    references = [clip["text"] for clip in clips]
    entities = read_entities(DEMO / "entities.txt")
    before = [h.text for h in model.transcribe(audio, batch_size=4)]
    print("Compiling the decoder, which is kept for the next time ...", flush=True)
    set_entities(model, str(DEMO / "entities.txt"), weight=args.weight)
    after = model.transcribe(audio, batch_size=4, return_hypotheses=True)

    show = marker()
    for clip, old, new in zip(clips, before, after, strict=True):
        print(f"\n{clip['audio_filepath']}   names: {', '.join(clip['names'])}")
        print(f"  reference  {clip['text']}")
        print(f"  before     {old}")
        print(f"  after      {show(new.text, [span.phrase for span in new.entity_spans])}")
    phrases = [entity.text for entity in entities]
    durations = [clip["duration"] for clip in clips]
    scores = {
        "before": score(references, before, phrases, durations),
        "after": score(references, [h.text for h in after], phrases, durations),
    }
    print(f"\n{len(clips)} clips, a list of {len(phrases)} entities   entity F1   precision   recall   word error rate")
    for name, result in scores.items():
        precision = "-" if result.precision is None else f"{result.precision:.1f}"
        print(f"  {name:<38}{result.f1:9.1f}{precision:>12}{result.recall:9.1f}{result.wer:18.1f}")
    if args.json:
        write_json(Path(args.json), clips, before, after, {name: result.as_dict() for name, result in scores.items()})


def quiet_restore(path: str) -> Any:
    """Restores a NeMo model without NeMo's usual notices."""
    logging.disable(logging.WARNING)
    from nemo.collections.asr.models import ASRModel
    from nemo.utils import logging as nemo_logging

    nemo_logging._logger.addFilter(lambda record: record.levelno >= logging.ERROR)
    return ASRModel.restore_from(path, map_location="cpu").eval()


def marker() -> Any:
    """A function that marks the entities in a text: in colour on a terminal, else in brackets."""
    left, right = ("\033[1;32m", "\033[0m") if sys.stdout.isatty() else ("[", "]")

    def show(text: str, phrases: list[str]) -> str:
        shown, rest = "", f" {text} "
        for phrase in phrases:
            head, found, rest = rest.partition(f" {phrase} ")
            shown += f"{head} {left}{phrase}{right}"
            rest = f" {rest}" if found else rest
        return (shown + rest).strip()

    return show


def write_json(path: Path, clips: list[dict[str, Any]], before: list[str], after: list[Any], scores: dict[str, Any]) -> None:
    """Writes what was printed."""
    rows = [
        {
            **clip,
            "before": old,
            "after": new.text,
            "entity_spans": [vars(span) for span in new.entity_spans],
        }
        for clip, old, new in zip(clips, before, after, strict=True)
    ]
    path.write_text(json.dumps({"scores": scores, "clips": rows}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
