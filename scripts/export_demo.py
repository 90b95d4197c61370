"""Freezes a trained checkpoint as the demo checkpoint.

    python scripts/export_demo.py TRAINED.nemo scripts/demo/demo.nemo

The encoder's and decoder's weights are rounded to half precision, which halves the file; NeMo computes with them in single
precision again after `restore_from`. Empty `train_ds` and `validation_ds` sections are added where there are none, since
NeMo's `transcribe` and `transcribe_speech_parallel.py` read them. Nothing else changes: the file is a stock NeMo checkpoint
that knows nothing of nemo_bias.
"""

from __future__ import annotations

import argparse

from omegaconf import open_dict


def main() -> None:
    """Restores, rounds and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", help="the checkpoint to freeze")
    parser.add_argument("demo", help="where to write it")
    args = parser.parse_args()

    from nemo.collections.asr.models import ASRModel

    model = ASRModel.restore_from(args.trained, map_location="cpu")
    with open_dict(model.cfg):
        for section in ("train_ds", "validation_ds"):
            if model.cfg.get(section) is None:
                model.cfg[section] = {"sample_rate": model.cfg.sample_rate, "use_start_end_token": False}
    model.encoder.half()
    model.decoder.half()
    model.save_to(args.demo)


if __name__ == "__main__":
    main()
