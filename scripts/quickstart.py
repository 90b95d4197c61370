"""Transcribes the bundled clips without and with their entity list, and shows the difference.

Four ways: greedy decoding; the list for the adapter; the list for the decoder; the list for both.

scripts/quickstart [--json FILE] [--min-probability 0.5]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_bias.command_line import command

if TYPE_CHECKING:
    from nemo_bias.evaluation import BiasingScore
    from nemo_bias.evaluation.occurrences import Occurrence, PhraseIndex, Words

DEMO = Path(__file__).resolve().parent / "demo"
GREEDY, ADAPTER, DECODER, BOTH = WAYS = ("greedy", "adapter", "decoder", "both")
RIGHT, WRONG, SPOKEN = "right", "wrong", "spoken"  # a name in a transcript, an invented one, one in a reference
COLOURS = {RIGHT: ("\033[1;32m", "\033[0m"), WRONG: ("\033[1;31m", "\033[0m"), SPOKEN: ("\033[1m", "\033[0m")}
MARKS = {RIGHT: ("[", "]"), WRONG: ("!", "!"), SPOKEN: ("[", "]")}


@command
def main() -> None:
    """Prints each clip's reference and its text in four ways, then the scores and what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write the results to FILE")
    parser.add_argument(
        "--min-probability", type=float, default=0.5, metavar="P", help="how likely a name must be to be written (0.5)"
    )
    args = parser.parse_args()

    print("Loading NeMo ...", flush=True)
    from nemo_bias import load_adapter, read_entities, set_entities
    from nemo_bias.evaluation import read_manifest, score
    from nemo_bias.evaluation.occurrences import PhraseIndex
    from nemo_bias.integration.model import restore_model

    model = restore_model(DEMO / "demo.nemo", "cpu")
    clips = read_manifest(DEMO / "clips.jsonl")
    audio = [str(DEMO / clip["audio_filepath"]) for clip in clips]
    entities = str(DEMO / "entities.txt")

    def transcribe() -> list[Any]:
        return model.transcribe(audio, batch_size=4, return_hypotheses=True, verbose=False)  # type: ignore[no-any-return]

    hypotheses = {GREEDY: transcribe()}
    print("Compiling the decoder, which is kept for the next time ...", flush=True)
    set_entities(model, entities, min_probability=args.min_probability)
    hypotheses[DECODER] = transcribe()
    load_adapter(model, DEMO / "adapter.pt")
    hypotheses[BOTH] = transcribe()
    set_entities(model, entities, method="greedy")
    hypotheses[ADAPTER] = transcribe()

    phrases = [entity.text for entity in read_entities(entities)]
    index = PhraseIndex(phrases)
    marks = COLOURS if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else MARKS
    for k, clip in enumerate(clips):
        reference = tuple(clip["text"].split())
        print(f"\n{clip['audio_filepath']}")
        print(f"  {'reference':<12}{marked(reference, dict.fromkeys(index.occurrences(reference), SPOKEN), marks)}")
        for way in WAYS:
            text = tuple(hypotheses[way][k].text.split())
            print(f"  {way:<12}{marked(text, judged(reference, text, index), marks)}")
    references, durations = [clip["text"] for clip in clips], [clip["duration"] for clip in clips]
    texts = {way: [h.text for h in hypotheses[way]] for way in WAYS}
    scores = {way: score(references, texts[way], phrases, durations, baseline=texts[GREEDY]) for way in WAYS}
    right, wrong = (word.join(marks[kind]) for kind, word in ((RIGHT, "right"), (WRONG, "invented")))
    print(f"\nNames: {right}, {wrong}\n\n{table(scores, f'{len(clips)} clips, a list of {len(phrases)} entities')}")
    print(f"\n{summary(scores[GREEDY], scores[BOTH])}")
    if args.json:
        write_json(Path(args.json), clips, hypotheses, {way: result.as_dict() for way, result in scores.items()})


def judged(reference: Words, text: Words, index: PhraseIndex) -> dict[Occurrence, str]:
    """The listed phrases in a recognised text: which are right, and which are invented."""
    from nemo_bias.evaluation.occurrences import align, hits

    recognised = index.occurrences(text)
    found = hits(index.occurrences(reference), recognised, align(reference, text), reference, text)
    return {occurrence: RIGHT if occurrence in found.values() else WRONG for occurrence in recognised}


def marked(text: Words, kinds: dict[Occurrence, str], marks: dict[str, tuple[str, str]]) -> str:
    """A text with marks around phrases; of those that overlap, the first and longest is marked."""
    shown, at = [], 0
    for occurrence in sorted(kinds, key=lambda o: (o.start, -len(o.words))):
        if occurrence.start >= at:
            left, right = marks[kinds[occurrence]]
            shown += [*text[at : occurrence.start], f"{left}{' '.join(occurrence.words)}{right}"]
            at = occurrence.start + len(occurrence.words)
    return " ".join([*shown, *text[at:]])


def table(scores: dict[str, BiasingScore], title: str) -> str:
    """The scores of all ways."""
    lines = [f"{title:<37}entity F1   precision   recall   word error rate   harmed words per 1,000"]
    for way, result in scores.items():
        cells = zip(number_cells(result), (9, 12, 9, 18, 25), strict=True)
        lines.append(f"  {way:<35}" + "".join(f"{cell:>{width}}" for cell, width in cells))
    return "\n".join(lines)


def number_cells(result: BiasingScore) -> Iterable[str]:
    """The numbers of a row of the table."""
    numbers = (result.f1, result.precision, result.recall, result.wer, result.harmed_per_thousand)
    return ("-" if number is None else f"{number:.1f}" for number in numbers)


def summary(before: BiasingScore, after: BiasingScore) -> str:
    """What the list did, in a sentence."""
    names = f"{after.true_positives} of {counted(after.occurrences, 'name')} {verb(after.true_positives)} right"
    invented = f"{after.false_alarms or 'none'} {verb(after.false_alarms or 1)} invented"
    others = "no other word was"
    if after.harmed:
        others = f"{counted(after.harmed, 'other word')} {'was' if after.harmed == 1 else 'were'}"
    return f"With the list and the adapter, {names} instead of {before.true_positives}, {invented}, and {others} harmed."


def counted(count: int, noun: str) -> str:
    """A number and what it counts."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def verb(count: int) -> str:
    """What follows so many things."""
    return "is" if count == 1 else "are"


def write_json(path: Path, clips: list[dict[str, Any]], hypotheses: dict[str, list[Any]], scores: dict[str, Any]) -> None:
    """Writes what was printed, and the entity spans of the decoder."""
    rows = []
    for k, clip in enumerate(clips):
        texts = {way: hypotheses[way][k].text for way in WAYS}
        spans = {way: [vars(span) for span in hypotheses[way][k].entity_spans] for way in (DECODER, BOTH)}
        rows.append({**clip, "texts": texts, "entity_spans": spans})
    path.write_text(json.dumps({"scores": scores, "clips": rows}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
