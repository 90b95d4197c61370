"""Trains a biasing adapter for a NeMo checkpoint, on one CPU or GPU. The checkpoint itself does not change.

    python scripts/train_adapter.py MODEL.nemo --train train.jsonl --validation dev.jsonl --output adapter.pt

The frozen encoder runs once over each copy of the data; then the adapter trains on what it made. A manifest's field
`entities` marks names; other entities are drawn from the rare words of the transcripts. Options of the adapter, as in
configs/biasing_adapter.yaml, come last: `contextual.heads=2 training.guide_weight=0.5`. To give an adapter that exists a
phone head, and leave the rest of it alone:

    python scripts/train_adapter.py MODEL.nemo --start adapter.pt --train train.jsonl --validation dev.jsonl \
        --output with_phones.pt 'phones={}' 'training.parts=[phones]'
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from omegaconf import OmegaConf

from nemo_bias.command_line import command


@command
def main() -> None:
    """Restores the model, adds or loads the adapter, and trains it."""
    args = _arguments()

    print("Loading NeMo ...", flush=True)
    import torch
    from hydra.errors import InstantiationException

    from nemo_bias.integration.encoder.adapter_config import BiasingAdapterConfig
    from nemo_bias.integration.encoder.adapter_file import load_adapter
    from nemo_bias.integration.model import restore_model
    from nemo_bias.integration.training.cached_training import TrainingRun, train_adapter
    from nemo_bias.options import typed_config

    torch.manual_seed(0)
    cache = args.cache or args.output.with_suffix(".cache")
    run = TrainingRun(
        train=args.train,
        output=args.output,
        cache=cache,
        validation=args.validation,
        audio_dir=args.audio_dir,
        copies=args.copies,
        steps=args.steps,
        learning_rate=args.learning_rate,
        log_dir=args.logs,
    )
    run.check()
    model = restore_model(args.model)
    options = OmegaConf.from_dotlist(args.options)
    if args.start:
        load_adapter(model, args.start, args.name, options)
    else:
        config = OmegaConf.structured(typed_config(BiasingAdapterConfig, options, "adapter"))
        try:
            model.add_adapter(args.name, cfg=config)
        except InstantiationException as error:  # of a value that is out of range
            raise ValueError(f"adapter: {error.__cause__ or error}") from error
    print(f"Training: {', '.join(model.encoder.adapter_layer[args.name].trained_parts())}", flush=True)
    train_adapter(model, args.name, run)
    print(f"{args.output}: the adapter {args.name!r}; {cache} may be deleted")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="NeMo CTC or hybrid checkpoint with a Conformer encoder")
    parser.add_argument(
        "--train", nargs="+", required=True, type=Path, metavar="MANIFEST", help="one given twice counts twice"
    )
    parser.add_argument("--validation", type=Path, metavar="FILE", help="manifest: measures loss and entity recall")
    parser.add_argument("--audio-dir", type=Path, metavar="DIR", help="of relative audio paths; default: each manifest's")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="adapter file to write")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="for the encoder's layers; default: OUTPUT.cache")
    parser.add_argument("--copies", type=int, default=3, help="of each manifest, the first clean, others varied; default 3")
    parser.add_argument("--steps", type=int, default=5000, help="optimizer steps; default 5000")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="the highest; default 0.002")
    parser.add_argument("--name", default="names", help="the adapter's name; default names")
    parser.add_argument("--start", metavar="FILE", help="go on with an adapter file instead of a new adapter")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="write TensorBoard logs")
    parser.add_argument(
        "options", nargs="*", metavar="KEY=VALUE", help="options of a new adapter; with --start, those that change"
    )
    return parser.parse_intermixed_args()  # options may follow the flags


if __name__ == "__main__":
    sys.exit(main())
