"""Freezes a trained checkpoint, or a trained adapter, as the demo's.

    python scripts/export_demo.py TRAINED.nemo scripts/demo/demo.nemo
    python scripts/export_demo.py adapter.pt scripts/demo/adapter.pt

The encoder's and decoder's weights are rounded to half precision, which halves the file; NeMo computes with them in single
precision again after `restore_from`. The sections `train_ds` and `validation_ds` are filled in where they are missing, since
NeMo's `transcribe`, `transcribe_speech_parallel.py` and `train_asr_adapter.py` (which drops every key that is not there)
read them. Nothing else changes: the file is a stock NeMo checkpoint that knows nothing of nemo_bias.
The weights in an adapter file are rounded likewise.
"""

from __future__ import annotations

import argparse
import sys

from omegaconf import open_dict

from nemo_bias.command_line import command

DATASET = {
    "manifest_filepath": None,
    "batch_size": 16,
    "shuffle": True,
    "num_workers": 0,
    "pin_memory": False,
    "max_duration": 20.0,
    "min_duration": 0.1,
    "trim_silence": False,
    "use_start_end_token": False,
    "is_tarred": False,
    "tarred_audio_filepaths": None,
}


@command
def main() -> None:
    """Reads, rounds and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", help="the checkpoint or adapter file to freeze")
    parser.add_argument("demo", help="where to write it")
    args = parser.parse_args()
    if args.trained.endswith(".pt"):
        export_adapter(args.trained, args.demo)
    else:
        export_checkpoint(args.trained, args.demo)


def export_adapter(trained: str, demo: str) -> None:
    """Rounds the weights in an adapter file."""
    import torch

    from nemo_bias.integration.encoder.adapter_file import read_adapter_file

    content = read_adapter_file(trained)
    for name, states in content.items():
        if name != "__cfg__":
            content[name] = [{key: value.half() for key, value in state.items()} for state in states]
    torch.save(content, demo)


def export_checkpoint(trained: str, demo: str) -> None:
    """Rounds the encoder and decoder of a checkpoint and completes its config."""
    from nemo_bias.integration.model import restore_model

    model = restore_model(trained, "cpu")
    with open_dict(model.cfg):
        for section in ("train_ds", "validation_ds"):
            given = model.cfg.get(section) or {}
            model.cfg[section] = {"sample_rate": model.cfg.sample_rate, **DATASET, "shuffle": section == "train_ds", **given}
        model.cfg.tokenizer.dir = None  # the file holds the tokenizer
    model.encoder.half()
    model.decoder.half()
    model.save_to(demo)


if __name__ == "__main__":
    sys.exit(main())
