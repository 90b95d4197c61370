"""Measure the speed of biased CTC decoders on one thread, in CPU seconds: the median of runs that take turns.

By default the input is made up, so no checkpoint is needed: a batch of 8 utterances of 300 frames, 1024 tokens, beam 8. They
are random sentences that hold a listed phrase here and there, spelled in the tokens of a SentencePiece model trained on the
spot, as peaky log-probs with confusions.

With --log-probs the utterances are real, in batches of 16, and the list is their entities and distractors, 1,000 phrases in
all. Each decoder has the middle one of the weights that compare_peers.py tries, ours its defaults. Ours is also measured on
one utterance of 750 frames and on one that repeats them to 135,000 frames.

Examples:
    python scripts/benchmark_decoders.py --phrases distractors.txt --json benchmark.json
    python scripts/benchmark_decoders.py --log-probs test.npz --manifest test.jsonl --tokenizer tokenizer.model \
        --phrases distractors.txt
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from numpy.typing import NDArray
from tqdm import tqdm  # type: ignore[import-untyped]

from nemo_bias.command_line import command
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.evaluation.comparison import LogProbs, experiment_list
from nemo_bias.evaluation.log_probs_file import read_log_probs
from nemo_bias.evaluation.manifest import read_manifest
from nemo_bias.evaluation.peers import all_systems
from nemo_bias.evaluation.recogniser import batches_by_length
from nemo_bias.evaluation.speed import length_timings, median_seconds
from nemo_bias.integration.decoding.nemo_decoders import nemo_vocabulary
from nemo_bias.integration.model import quiet_nemo, sentencepiece_tokenizer

BATCH, FRAMES, TOKENS, BEAM_SIZE = 8, 300, 1024, 8
SIZES = (0, 10, 10_000, 100_000)
REAL_BATCH, REAL_PHRASES = 16, 1_000
SHORT_FRAMES, LONG_COPIES = 750, 180  # a minute and three hours, at 80 ms a frame
OURS, BEAM_TREE, GREEDY_TREE = "nemo_bias", "NeMo beam_batch + tree", "NeMo greedy_batch + tree"
SYLLABLES = [consonant + vowel for consonant in "bdfghjklmnprstvz" for vowel in "aeiou"] + [
    "an",
    "er",
    "is",
    "on",
    "th",
    "st",
]
Batch = tuple[NDArray[np.float32], NDArray[np.integer] | None]  # log-probs [B, T, V], lengths [B]
Row = tuple[str, int, Callable[[Sequence[str]], Callable[[], Any]]]  # decoder, size of its list, what compiles it
FIRST_DECODE = """
import time
start = time.process_time()
import numpy as np
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.vocabulary import character_vocabulary
imported = time.process_time()
search = BiasedBeamSearch(character_vocabulary(" abc"), threads=1)
log_probs = np.log(np.random.default_rng(0).dirichlet(np.ones(5), (1, 50))).astype(np.float32)
search.decode(log_probs, lists=search.compile(["ab", "ca b"]))
print(imported - start, time.process_time() - imported)
"""


@dataclass
class Timing:
    """Times of one decoder with one list.

    Attributes:
        decoder: its name.
        phrases: size of the list.
        compile_seconds: CPU time of the only compilation.
        decode_seconds: median CPU time of decoding the utterances.
        decode_ratio: `decode_seconds` by that of ours; with 10,000 phrases if the input is made up.
    """

    decoder: str
    phrases: int
    compile_seconds: float
    decode_seconds: float = float("nan")
    decode_ratio: float = float("nan")


@command
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 2 if an input cannot be used."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if len({each is None for each in (options.log_probs, options.manifest, options.tokenizer)}) > 1:
        parser.error("give --log-probs, --manifest and --tokenizer together")
    torch.set_num_threads(1)
    quiet_nemo()
    listed = options.phrases.read_text(encoding="utf-8").splitlines() if options.phrases else None
    phrases = list(dict.fromkeys(listed or random_phrases(max(SIZES), seed=1)))
    if options.log_probs:
        report = measure_real(options, phrases)
    else:
        if len(phrases) < max(SIZES):
            raise ValueError(f"--phrases: {len(phrases)} distinct phrases; {max(SIZES)} are needed")
        with tempfile.TemporaryDirectory() as folder:
            report = measure(phrases[: max(SIZES)], folder, options.repeats)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(markdown(report))
    return 0


def measure(phrases: Sequence[str], folder: str, repeats: int) -> dict[str, Any]:
    """Times every decoder.

    Args:
        phrases: at least as many as the longest list has.
        folder: an empty folder for the tokenizer.
        repeats: runs of each decoder.

    Returns:
        A report for JSON.
    """
    tokenizer = train_tokenizer(phrases, folder)
    log_probs = synthetic_log_probs(tokenizer, phrases, seed=2)
    timings, runs = compiled_decoders(tokenizer, phrases, log_probs)
    at = {(timing.decoder, timing.phrases): timing for timing in timings}
    _decode(timings, runs, repeats, at[OURS, 10_000])
    subprocess_seconds = [_first_decode() for _ in range(2)][1]  # the first one fills numba's cache
    return {
        "shape": [BATCH, FRAMES, TOKENS + 1],
        "beam_size": BEAM_SIZE,
        "ratio_to": "ours at 10k",
        "repeats": repeats,
        "timings": [asdict(timing) for timing in timings],
        "beam_batch + tree / ours at 10k phrases": at[BEAM_TREE, 10_000].decode_ratio,
        "greedy_batch + tree / ours at 10k phrases": at[GREEDY_TREE, 10_000].decode_ratio,
        "ours with 100k phrases / ours with none": at[OURS, 100_000].decode_seconds / at[OURS, 0].decode_seconds,
        "ours, compile 10k phrases, seconds": at[OURS, 10_000].compile_seconds,
        "ours, compile 100k phrases, seconds": at[OURS, 100_000].compile_seconds,
        "ours, import in a second process, seconds": subprocess_seconds[0],
        "ours, first compilation and decoding in a second process, seconds": subprocess_seconds[1],
    }


def measure_real(options: argparse.Namespace, distractors: Sequence[str]) -> dict[str, Any]:
    """Times every decoder that takes so long a list on real utterances, and ours on a short and a long one.

    Args:
        options: of the command line.
        distractors: phrases in a fixed order.

    Returns:
        A report for JSON.
    """
    tokenizer = sentencepiece_tokenizer(options.tokenizer)
    vocabulary = nemo_vocabulary(tokenizer)
    items = read_manifest(options.manifest, ("text", "entities"))
    of_manifest = read_log_probs(options.log_probs, len(items), vocabulary.size)
    count = min(len(items), options.utterances)
    chosen = [k * len(items) // count for k in range(count)]  # spread evenly
    items, log_probs = [items[k] for k in chosen], [of_manifest[k] for k in chosen]
    wanted = REAL_PHRASES - len(experiment_list(items, (), 0).entities)
    phrases = experiment_list(items, distractors, max(0, wanted)).phrases

    batches = _padded(log_probs)
    rows: list[Row] = [(OURS, len(phrases), lambda chosen: _ours(vocabulary, chosen, batches))]
    for name, system in all_systems(tokenizer).items():
        if name != OURS and system.most_phrases is None:  # pyctcdecode is optional, and too slow for such lists
            weights = system.weights[len(system.weights) // 2]
            prepare = functools.partial(system.prepare, weights=weights)
            rows.append((system.name, len(phrases), lambda chosen, prepare=prepare: _bound(prepare(chosen), log_probs)))
    timings, runs = _compile(rows, phrases)
    _decode(timings, runs, options.repeats, timings[0])

    frames = np.concatenate(log_probs)
    block = np.resize(frames, (SHORT_FRAMES, frames.shape[1]))  # repeats them if they are too few
    short, long = length_timings(vocabulary, phrases, block, LONG_COPIES, options.repeats)
    return {
        "log_probs": str(options.log_probs),
        "utterances": len(items),
        "frames": len(frames),
        "batch": REAL_BATCH,
        "ratio_to": "ours",
        "repeats": options.repeats,
        "timings": [asdict(timing) for timing in timings],
        f"ours, {short.frames:,} frames, seconds per 1,000 frames": short.seconds_per_thousand_frames,
        f"ours, {long.frames:,} frames, seconds per 1,000 frames": long.seconds_per_thousand_frames,
        "ours, long / short, seconds per frame": long.seconds_per_thousand_frames / short.seconds_per_thousand_frames,
        "ours, long, peak extra memory, megabytes": long.extra_bytes / 1e6,
    }


def _padded(log_probs: Sequence[LogProbs]) -> list[Batch]:
    """Utterances of like lengths as batches."""
    batches = []
    for chosen in batches_by_length([len(each) for each in log_probs], REAL_BATCH):
        lengths = np.array([len(log_probs[k]) for k in chosen])
        padded = np.zeros((len(chosen), lengths.max(), log_probs[0].shape[1]), np.float32)
        for row, k in zip(padded, chosen, strict=True):
            row[: len(log_probs[k])] = log_probs[k]
        batches.append((padded, lengths))
    return batches


def compiled_decoders(
    tokenizer: Any, phrases: Sequence[str], log_probs: NDArray[np.float32]
) -> tuple[list[Timing], list[Callable[[], Any]]]:
    """Every row of the table with its compile time, and a function that decodes the batch once."""
    each, vocabulary = list(log_probs), nemo_vocabulary(tokenizer)
    systems = all_systems(tokenizer)
    greedy, beam, spotter = systems["greedy_batch"], systems["beam_batch"], systems["ctc_ws"]
    alpha = {"alpha": 1.0}
    rows: list[Row] = [
        ("NeMo greedy_batch", 0, lambda chosen: _bound(greedy.prepare(chosen, alpha), each)),
        *((GREEDY_TREE, n, lambda chosen: _bound(greedy.prepare(chosen, alpha), each)) for n in (10, 10_000)),
        ("NeMo beam_batch", 0, lambda chosen: _bound(beam.prepare(chosen, alpha), each)),
        *((BEAM_TREE, n, lambda chosen: _bound(beam.prepare(chosen, alpha), each)) for n in (10, 10_000)),
        (
            "NeMo CTC-WS",
            10_000,
            lambda chosen: _bound(spotter.prepare(chosen, {"cb_weight": 3.0, "ctc_ali_token_weight": 0.5}), each),
        ),
        *((OURS, n, lambda chosen: _ours(vocabulary, chosen, [(log_probs, None)])) for n in SIZES),
    ]
    return _compile(rows, phrases)


def _compile(rows: Sequence[Row], phrases: Sequence[str]) -> tuple[list[Timing], list[Callable[[], Any]]]:
    """Compiles the list of each row, after a short one that warms up."""
    timings, runs = [], []
    for name, size, prepare in tqdm(rows, desc="compiling", unit="list"):
        prepare(phrases[:10])
        start = time.process_time()
        runs.append(prepare(phrases[:size]))
        timings.append(Timing(name, size, time.process_time() - start))
    return timings, runs


def _decode(timings: Sequence[Timing], runs: Sequence[Callable[[], Any]], repeats: int, ours: Timing) -> None:
    """Fills in the times of decoding, and their ratios to those of `ours`."""
    for timing, seconds in zip(timings, median_seconds(runs, repeats), strict=True):
        timing.decode_seconds = seconds
    for timing in timings:
        timing.decode_ratio = timing.decode_seconds / ours.decode_seconds


def _bound(decode: Callable[[Any], Any], log_probs: Any) -> Callable[[], Any]:
    return lambda: decode(log_probs)


def _ours(vocabulary: Vocabulary, phrases: Sequence[str], batches: Sequence[Batch]) -> Callable[[], Any]:
    search = BiasedBeamSearch(vocabulary, threads=1)
    entities = search.compile(phrases)
    return lambda: [search.decode(log_probs, lengths, entities) for log_probs, lengths in batches]


def random_phrases(count: int, seed: int) -> list[str]:
    """Distinct pronounceable phrases of one to three words."""
    rng = np.random.default_rng(seed)
    phrases: dict[str, None] = {}
    while len(phrases) < count:
        words = ["".join(rng.choice(SYLLABLES, rng.integers(2, 5))) for _ in range(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))]
        phrases[" ".join(words)] = None
    return list(phrases)


def train_tokenizer(phrases: Sequence[str], folder: str) -> Any:
    """A NeMo tokenizer of a SentencePiece BPE model of 1024 tokens, trained on phrases and filler sentences."""
    prefix = str(Path(folder) / "tokenizer")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*phrases[:20_000], *random_phrases(5_000, seed=3)]),
        model_prefix=prefix,
        vocab_size=TOKENS,
        model_type="bpe",
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return sentencepiece_tokenizer(f"{prefix}.model")


def synthetic_log_probs(tokenizer: Any, phrases: Sequence[str], seed: int) -> NDArray[np.float32]:
    """Log-probs [B, T, V] that look like a CTC model's: blanks between short peaks, some of them confused.

    Sentences are made-up words and, on average every eighth, a phrase from the whole list. There are
    1 to 5 frames between tokens.
    """
    rng = np.random.default_rng(seed)
    fillers = random_phrases(2_000, seed=4)
    logits = rng.normal(0.0, 1.5, (BATCH, FRAMES, TOKENS + 1))
    for utterance in logits:
        blank = np.full(FRAMES, 13.0)
        frame = int(rng.integers(1, 6))
        tokens: list[int] = []
        while frame < FRAMES:
            if not tokens:
                source = phrases if rng.random() < 1 / 8 else fillers
                tokens = list(tokenizer.text_to_ids(source[int(rng.integers(len(source)))]))
            token = tokens.pop(0)
            length = 1 + int(rng.random() < 0.2)
            peak = utterance[frame : frame + length]
            peak[:, token] += rng.normal(11.0, 2.0)
            rivals = rng.integers(0, TOKENS, 6)
            peak[:, rivals] += rng.normal(6.5, 2.5, 6)  # often close, at times above the token
            blank[frame : frame + length] = rng.normal(7.0, 2.0)
            frame += length + int(rng.integers(1, 6))
        utterance[:, TOKENS] += blank
    tensor = torch.log_softmax(torch.from_numpy(logits.astype(np.float32)), dim=-1)
    return tensor.numpy()


def _first_decode() -> tuple[float, float]:
    """CPU seconds of importing our decoder, and of its first compilation and decoding, in a new process."""
    done = subprocess.run([sys.executable, "-c", FIRST_DECODE], capture_output=True, text=True, check=True)
    imported, decoded = map(float, done.stdout.split())
    return imported, decoded


def markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown table and a list."""
    lines = [
        f"| decoder | phrases | compile s | decode s | decode / {report['ratio_to']} |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in report["timings"]:
        times = f"{row['compile_seconds']:.3f} | {row['decode_seconds']:.4f} | {row['decode_ratio']:.2f}"
        lines.append(f"| {row['decoder']} | {row['phrases']:,} | {times} |")
    lines.append("")
    for name, value in report.items():
        if isinstance(value, float):
            lines.append(f"- {name}: {value:.3f}" if value >= 1 else f"- {name}: {value:.3g}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the speed of biased CTC decoders on one thread.")
    parser.add_argument(
        "--phrases",
        type=Path,
        metavar="FILE",
        help="phrases in a-z, one a line; 100,000 for made-up input; default: made up",
    )
    parser.add_argument("--log-probs", type=Path, metavar="FILE", help=".npz of log-probs of real utterances")
    parser.add_argument("--manifest", type=Path, metavar="M.jsonl", help="their manifest, with entities")
    parser.add_argument("--tokenizer", type=Path, metavar="T.model", help="SentencePiece model of their tokens")
    parser.add_argument("--utterances", type=int, default=64, metavar="N", help="of them, spread evenly; default: 64")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="timed runs of each decoder; default: 7")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
