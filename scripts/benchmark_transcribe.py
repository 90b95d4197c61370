"""Measures what a list of which nothing is spoken costs: CPU time of NeMo's `transcribe`, as a ratio of that without it.

    python scripts/benchmark_transcribe.py --phrases names.txt --model MODEL.nemo --manifest M.jsonl --adapter adapter.pt

The ways of decoding take turns on one thread, after a first round that warms up; the median of the runs counts. The list is
the first phrases that share no word with a reference, and is compiled apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nemo_bias.command_line import command

DEMO = Path(__file__).resolve().parent / "demo"


@command
def main() -> None:
    """Prints a table."""
    options = _arguments()
    from nemo_bias import load_adapter, set_entities
    from nemo_bias.evaluation.comparison import experiment_list
    from nemo_bias.evaluation.manifest import read_manifest
    from nemo_bias.evaluation.speed import median_seconds
    from nemo_bias.integration.model import restore_ctc_model

    torch.set_num_threads(1)
    items = read_manifest(options.manifest, ("audio_filepath", "text"))[: options.utterances]
    audio = [str(options.manifest.parent / item["audio_filepath"]) for item in items]
    phrases = options.phrases.read_text(encoding="utf-8").splitlines()
    entities = experiment_list([{**item, "entities": []} for item in items], phrases, options.count).distractors
    model = restore_ctc_model(options.model)
    if options.adapter:
        load_adapter(model, options.adapter)
    decoders = {"greedy_batch": _decoding(model)}
    start = time.process_time()
    set_entities(model, entities, adapter=False, threads=1)
    seconds = time.process_time() - start
    decoders["biased_beam"] = model.decoding
    if options.adapter:
        set_entities(model, entities, threads=1)
        decoders["biased_beam + adapter"] = model.decoding
    written: dict[str, list[str]] = {}

    def run(name: str) -> Callable[[], Any]:
        def transcribe() -> None:
            model.decoding = model.wer.decoding = decoders[name]
            hypotheses = model.transcribe(audio, batch_size=options.batch, return_hypotheses=True, verbose=False)
            written[name] = [hypothesis.text for hypothesis in hypotheses]

        return transcribe

    medians = median_seconds([run(name) for name in decoders], options.repeats)
    print(f"{len(audio)} utterances, {len(entities):,} entities, compiled in {seconds:.1f} s\n")
    print("| decoding | CPU seconds | ratio | texts that differ |\n|---|---:|---:|---:|")
    for name, median in zip(decoders, medians, strict=True):
        different = sum(ours != theirs for ours, theirs in zip(written[name], written["greedy_batch"], strict=True))
        print(f"| {name} | {median:.2f} | {median / medians[0]:.3f} | {different} |")
    return 0


def _decoding(model: Any) -> Any:
    """NeMo's own greedy decoding."""
    config = model.cfg.decoding.copy()
    config.strategy = "greedy_batch"
    model.change_decoding_strategy(config, verbose=False)
    return model.decoding


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phrases", required=True, type=Path, metavar="FILE", help="one a line")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="how many of them; default: 1000")
    parser.add_argument("--model", type=Path, default=DEMO / "demo.nemo", metavar="M.nemo", help="default: the bundled one")
    parser.add_argument("--adapter", type=Path, metavar="FILE", help="its adapter, for one more row")
    parser.add_argument(
        "--manifest", type=Path, default=DEMO / "clips.jsonl", metavar="M.jsonl", help="default: the bundled clips"
    )
    parser.add_argument("--utterances", type=int, metavar="N", help="first ones of the manifest; default: all")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="utterances at a time; default: 4")
    parser.add_argument("--repeats", type=int, default=9, metavar="N", help="timed runs of each; default: 9")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
