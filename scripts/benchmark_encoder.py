"""Measures what a biasing adapter costs the encoder: its time with lists of several lengths, as ratios of that without.

The last row is that of a phone head alone.

    python scripts/benchmark_encoder.py --model MODEL.nemo --seconds 10 --batch 8 --threads 1

The adapter is new, of the default sizes, and the entities are random token sequences: neither changes the time. Encoding the
list itself, which happens once, is timed apart. The lengths take turns, and the median of the runs counts.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

import torch

from nemo_bias.command_line import command

DEMO = Path(__file__).resolve().parent / "demo" / "demo.nemo"


@command
def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(DEMO), help="NeMo CTC checkpoint; default: the bundled one")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each utterance; default 10")
    parser.add_argument("--batch", type=int, default=8, help="utterances at a time; default 8")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch; default 1")
    parser.add_argument("--runs", type=int, default=15, help="of each; default 15")
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 100, 1000, 10000], help="entities")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    from nemo_bias import BiasingAdapterConfig
    from nemo_bias.adapter.config import PhoneHeadConfig
    from nemo_bias.integration.encoder.biasing_adapter import Offer
    from nemo_bias.integration.model import restore_ctc_model

    model = restore_ctc_model(args.model)
    model.add_adapter("names", cfg=BiasingAdapterConfig(phones=PhoneHeadConfig()))
    model.eval()
    adapter = model.encoder.adapter_layer["names"]
    draw = random.Random(0)
    offers: dict[str, Offer | None] = {}
    listing: dict[str, float] = {}
    for size in args.sizes:
        tokens = {
            str(k): [draw.randrange(1, adapter.recogniser.vocabulary_size) for _ in range(draw.randint(2, 9))]
            for k in range(size)
        }
        start = time.perf_counter()
        offers[f"{size:,}"] = Offer(adapter.encode(tuple(tokens), tokens.__getitem__)) if size else None
        listing[f"{size:,}"] = time.perf_counter() - start
    offers["phone head"], listing["phone head"] = Offer(phones=True), 0.0
    features = torch.randn(args.batch, model.cfg.preprocessor.features, int(args.seconds * 100))
    lengths = torch.full((args.batch,), features.shape[2])
    times: dict[str, list[float]] = {name: [] for name in offers}
    with torch.inference_mode():
        for run in range(args.runs + 1):
            for name, offer in offers.items():
                adapter.offer(offer)
                start = time.perf_counter()
                model.encoder(audio_signal=features, length=lengths)
                if run:  # the first warms up
                    times[name].append(time.perf_counter() - start)
    print("| entities | encoder ms | ratio | list s |\n|---:|---:|---:|---:|")
    medians = {name: statistics.median(of_runs) for name, of_runs in times.items()}
    first = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"| {name} | {1000 * median:.0f} | {median / first:.3f} | {listing[name]:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
