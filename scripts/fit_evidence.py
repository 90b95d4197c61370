"""Fits the weights of evidence to recognisers of your own, or checks how well probabilities are calibrated.

A *regime* is a kind of log-probs: NAME=LOG_PROBS.npz (format: `nemo_bias.evaluation.log_probs_file`), NAME=MODEL.nemo, or
NAME=MODEL.nemo,ADAPTER.pt, after which a word, `,contextual` or `,phones`, may name the only part of the adapter that
counts. For each regime, source (the folder that audio paths start with) and number of distractors, the list is every entity
of the data and that many distractors; with --near, there is one more list of every entity and phrases that sound near what
is said. Writes to DIR

- evidence.json: the weights, for the decoding option `evidence_file`;
- calibration.md, calibration.png: whether of the arcs with probability 0.7 seven in ten are right, and what decoding gives,
  each utterance with weights that were fitted without it.

With --lm-file, what a language model adds is fitted, and all other weights are the package's.

With --check, nothing is fitted: the calibration is that of given weights, for instance on test data.

Examples:
    python scripts/fit_evidence.py --manifest dev.jsonl --distractors distractors.txt --near 'near/dev_{source}.txt' \
        --regime strong=strong.npz --weight strong=2 --tokenizer tokenizer.model --regime weak=M.nemo \
        --regime adapter=M.nemo,adapter.pt,contextual --regime phones=M.nemo,adapter.pt,phones \
        --regime both=M.nemo,adapter.pt --output fit
    python scripts/fit_evidence.py --check fit/evidence.json --manifest test.jsonl --distractors distractors.txt \
        --regime weak=M.nemo --output check
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from nemo_bias.command_line import command
from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.frequencies import word_frequencies
from nemo_bias.decoder.lm_file import read_lm
from nemo_bias.decoder.probability import DEFAULT_FILE, read_weights
from nemo_bias.decoder.sounds import word_sounds
from nemo_bias.evaluation.arc_sets import ArcSet, Experiment, Regime, collect_arcs, experiments_of
from nemo_bias.evaluation.arguments import add_data_arguments, add_sizes_argument, audio_dir_of, sizes_of
from nemo_bias.evaluation.calibration import bins_by_regime, calibration_report, measure, plot_calibration
from nemo_bias.evaluation.evidence_fit import FOLDS, fit_files
from nemo_bias.evaluation.manifest import by_source, read_manifest
from nemo_bias.evaluation.regimes import CONTEXTUAL, PHONES, Recordings, RegimeFiles, open_regime
from nemo_bias.integration.model import quiet_nemo

Made = tuple[Regime, Experiment, ArcSet]  # a set of arcs, and what it was made of


@command
def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, or 2 if an input cannot be used."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    quiet_nemo()
    print(_run(options))


def _run(options: argparse.Namespace) -> str:
    """Writes all files; returns the report."""
    decoding = DecodingOptions(
        word_frequencies=options.word_frequencies, pronunciations=options.pronunciations, lm_file=options.lm_file
    )
    if options.lm_file is not None:
        read_lm(options.lm_file)
    if options.check is not None:  # a broken file is known at once
        read_weights(options.check, options.word_frequencies is not None, options.pronunciations is not None)
    if options.word_frequencies is not None:
        word_frequencies(options.word_frequencies)
    if options.pronunciations is not None:
        word_sounds(options.pronunciations)
    made = _make_sets(options, decoding)
    if options.check is not None:
        report = _measure(options, decoding, made, [options.check], f"Calibration of {options.check.name}")
    else:
        sets = [arcs for _, _, arcs in made]
        if options.pronunciations is not None:
            sets += [arcs for _, _, arcs in _make_sets(options, replace(decoding, pronunciations=None))]
        with tempfile.TemporaryDirectory() as folder, tqdm(total=1 + FOLDS, desc="fit", unit="fit") as bar:
            with_frequencies = options.word_frequencies is not None
            folds = fit_files(sets, options.output / "evidence.json", Path(folder), with_frequencies, bar.update)
            report = _measure(options, decoding, made, folds, f"Calibration, cross-validated in {FOLDS} folds")
    return report


def _make_sets(options: argparse.Namespace, decoding: DecodingOptions) -> list[Made]:
    items = read_manifest(options.manifest, ("audio_filepath", "duration", "text", "entities"))
    sources = by_source(items, options.manifest, options.sources, options.manifest.stem)
    near = None
    if options.near:
        near = {source: _lines(Path(options.near.replace("{source}", source))) for source in sources}
    distractors = _lines(options.distractors)
    sizes = sizes_of(options, [[items[k] for k in places] for places in sources.values()], distractors)
    experiments = experiments_of(items, sources, distractors, sizes, near, options.max_utterances)
    options.output.mkdir(parents=True, exist_ok=True)
    recordings = Recordings(options.manifest, items, audio_dir_of(options, options.manifest), options.output)
    regimes = [open_regime(files, recordings, options.tokenizer) for files in _regime_files(options)]
    pairs = [(regime, experiment) for regime in regimes for experiment in experiments]
    made = []
    with tqdm(pairs, desc="arcs", unit="set") as bar:
        for regime, experiment in bar:
            bar.set_postfix_str(_label(regime, experiment))
            made.append((regime, experiment, collect_arcs(regime, experiment, decoding)))
    return made


def _measure(
    options: argparse.Namespace, decoding: DecodingOptions, made: Sequence[Made], evidence_files: Sequence[Path], title: str
) -> str:
    results = []
    with tqdm(made, desc="decode", unit="set") as bar:
        for regime, experiment, arcs in bar:
            bar.set_postfix_str(_label(regime, experiment))
            results.append(measure(regime, experiment, arcs, decoding, evidence_files))
    report = calibration_report(results, title)
    (options.output / "calibration.md").write_text(report, encoding="utf-8")
    plot_calibration(bins_by_regime(results), options.output / "calibration.png")
    return report


def _label(regime: Regime, experiment: Experiment) -> str:
    return f"{regime.name}, {experiment.source}, {experiment.listed.name} distractors"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _regime_files(options: argparse.Namespace) -> list[RegimeFiles]:
    files: dict[str, RegimeFiles] = {}
    for text in options.regime:
        name, equals, paths = text.partition("=")
        parts = paths.split(",")
        kinds = [Path(part).suffix for part in parts]
        part = parts.pop() if len(parts) == 3 else None
        one_kind = kinds == [".npz"] or (kinds[0] == ".nemo" and len(parts) <= 2)
        if not name or not equals or not one_kind or part not in (None, CONTEXTUAL, PHONES):
            raise ValueError(
                f"--regime {text}: give NAME=LOG_PROBS.npz, NAME=MODEL.nemo or NAME=MODEL.nemo,ADAPTER[,contextual|,phones]"
            )
        if name in files:
            raise ValueError(f"--regime {text}: there is another {name}")
        files[name] = RegimeFiles(name, Path(parts[0]), Path(parts[1]) if len(parts) > 1 else None, part)
    for text in options.weight:
        name, _, number = text.partition("=")
        if name not in files:
            raise ValueError(f"--weight {text}: no --regime is called {name}")
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf"):
            raise ValueError(f"--weight {text}: give NAME=NUMBER, above 0")
        files[name] = replace(files[name], weight=weight)
    return list(files.values())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", required=True, type=Path, metavar="M.jsonl", help="manifest with entities")
    add_data_arguments(parser)
    add_sizes_argument(parser)
    parser.add_argument(
        "--near", metavar="FILE", help="phrases that sound near what is said, one a line; {source} in the name is replaced"
    )
    parser.add_argument("--regime", required=True, action="append", metavar="NAME=FILES", help="see above; may be repeated")
    parser.add_argument(
        "--weight", action="append", default=[], metavar="NAME=W", help="how much a regime counts in the fit; default: 1"
    )
    parser.add_argument("--tokenizer", type=Path, metavar="T.model", help="SentencePiece model, for log-probs from files")
    parser.add_argument(
        "--word-frequencies",
        type=_source,
        default="en",
        metavar="SOURCE",
        help="the decoding option: language code, or file of ordinary text; null: none; default: %(default)s",
    )
    parser.add_argument(
        "--pronunciations",
        type=_source,
        default="en",
        metavar="SOURCE",
        help="the decoding option: en, cmudict or a lexicon file; null: none; default: %(default)s",
    )
    parser.add_argument("--lm-file", metavar="FILE", help="the decoding option: word language model; default: none")
    parser.add_argument("--max-utterances", type=int, metavar="N", help="of each source; default: all")
    parser.add_argument(
        "--check",
        type=Path,
        nargs="?",
        const=DEFAULT_FILE,
        metavar="EVIDENCE.json",
        help="fit nothing, measure these weights; without a file: the package's own",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="also keeps what checkpoints compute")
    return parser


def _source(text: str) -> str | None:
    return None if text == "null" else text


if __name__ == "__main__":
    sys.exit(main())
