"""Transcribes the bundled clips without and with their entity list, and shows the difference.

Four ways: greedy decoding; greedy decoding with the adapter; beam search; beam search with the adapter.

scripts/quickstart [--json FILE] [--weight 1.0]
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEMO = Path(__file__).resolve().parent / "demo"
GREEDY, ADAPTER, BEAM, BOTH = WAYS = ("greedy", "adapter", "beam", "both")


def main() -> None:
    """Prints each clip's reference and its text in four ways, then the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write the results to FILE")
    parser.add_argument("--weight", type=float, default=1.0, help="how much to trust the list in beam search")
    args = parser.parse_args()

    print("Loading NeMo ...", flush=True)
    from nemo_bias import load_adapter, read_entities, set_entities
    from nemo_bias.evaluation import read_manifest, score

    model = quiet_restore(str(DEMO / "demo.nemo"))
    clips = read_manifest(DEMO / "clips.jsonl")
    audio = [str(DEMO / clip["audio_filepath"]) for clip in clips]
    entities = str(DEMO / "entities.txt")

    def transcribe() -> list[Any]:
        return model.transcribe(audio, batch_size=4, return_hypotheses=True)  # type: ignore[no-any-return]

    hypotheses = {GREEDY: transcribe()}
    print("Compiling the decoder, which is kept for the next time ...", flush=True)
    set_entities(model, entities, weight=args.weight)
    hypotheses[BEAM] = transcribe()
    load_adapter(model, DEMO / "adapter.pt")
    hypotheses[BOTH] = transcribe()
    set_entities(model, entities, method="greedy")
    hypotheses[ADAPTER] = transcribe()

    phrases = [entity.text for entity in read_entities(entities)]
    show = marker(phrases)
    for k, clip in enumerate(clips):
        print(f"\n{clip['audio_filepath']}   names: {', '.join(clip['names'])}")
        print(f"  {'reference':<12}{clip['text']}")
        for way in WAYS:
            print(f"  {way:<12}{show(hypotheses[way][k].text)}")
    references, durations = [clip["text"] for clip in clips], [clip["duration"] for clip in clips]
    scores = {way: score(references, [h.text for h in hypotheses[way]], phrases, durations) for way in WAYS}
    print(f"\n{len(clips)} clips, a list of {len(phrases)} entities   entity F1   precision   recall   word error rate")
    for way, result in scores.items():
        precision = "-" if result.precision is None else f"{result.precision:.1f}"
        print(f"  {way:<38}{result.f1:9.1f}{precision:>12}{result.recall:9.1f}{result.wer:18.1f}")
    if args.json:
        write_json(Path(args.json), clips, hypotheses, {way: result.as_dict() for way, result in scores.items()})


def quiet_restore(path: str) -> Any:
    """Restores a NeMo model without NeMo's usual notices."""
    logging.disable(logging.WARNING)
    from nemo.collections.asr.models import ASRModel
    from nemo.utils import logging as nemo_logging

    nemo_logging._logger.addFilter(lambda record: record.levelno >= logging.ERROR)
    return ASRModel.restore_from(path, map_location="cpu").eval()


def marker(phrases: list[str]) -> Callable[[str], str]:
    """A function that marks the phrases in a text: in colour on a terminal, else in brackets."""
    left, right = ("\033[1;32m", "\033[0m") if sys.stdout.isatty() else ("[", "]")
    longest_first = "|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True))
    listed = re.compile(rf"(?<!\S)({longest_first})(?!\S)")
    return lambda text: listed.sub(lambda match: f"{left}{match[0]}{right}", text)


def write_json(path: Path, clips: list[dict[str, Any]], hypotheses: dict[str, list[Any]], scores: dict[str, Any]) -> None:
    """Writes what was printed, and the entity spans of beam search."""
    rows = []
    for k, clip in enumerate(clips):
        texts = {way: hypotheses[way][k].text for way in WAYS}
        spans = {way: [vars(span) for span in hypotheses[way][k].entity_spans] for way in (BEAM, BOTH)}
        rows.append({**clip, "texts": texts, "entity_spans": spans})
    path.write_text(json.dumps({"scores": scores, "clips": rows}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
