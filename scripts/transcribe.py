"""Transcribes a manifest or a folder with a CTC model, for those who do not have NeMo's examples at hand.

    python scripts/transcribe.py model_path=MODEL.nemo dataset_manifest=M.jsonl output_filename=OUT.jsonl \
        ctc_decoding.strategy=biased_beam ctc_decoding.biased_beam.entity_file=names.txt

The options are those of NeMo's transcribe_speech.py that have the same names. The output has the fields of the input,
`pred_text` and `entity_spans`.

With explain='[Katharina,"Port Moresby"]' it tells for each utterance why these are written or not; with explain_missed=true
for the entities that the manifest's `text` has and the output has not. That is printed, and stands in the field
`explanations`, which scripts/evaluate.py --details shows, too.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from nemo_bias.command_line import command, quiet_libraries

quiet_libraries()

from nemo.collections.asr.parts.submodules.ctc_decoding import CTCDecodingConfig  # noqa: E402
from nemo.core.config import hydra_runner  # noqa: E402

from nemo_bias.integration.model import quiet_nemo, restore_model  # noqa: E402


# OmegaConf reads the annotations, and knows Optional[X] better than X | None.
@dataclass
class TranscriptionConfig:
    """What the command line can set."""

    model_path: Optional[str] = None  # noqa: UP045 - a .nemo file
    pretrained_name: Optional[str] = None  # noqa: UP045 - or the name of a published model
    dataset_manifest: Optional[str] = None  # noqa: UP045 - JSON lines; relative audio paths start at its folder
    audio_dir: Optional[str] = None  # noqa: UP045 - or a folder with audio files
    output_filename: Optional[str] = None  # noqa: UP045 - by default the manifest's name with _predicted
    batch_size: int = 32
    num_workers: int = 0
    timestamps: bool = False
    decoder_type: Optional[str] = None  # noqa: UP045 - of a hybrid model; only ctc can be biased, and is the default
    explain: list[str] = field(default_factory=list)  # entities, of each of which is told why it is written or not
    explain_missed: bool = False  # the same of those that an utterance's `text` has and the output has not
    ctc_decoding: CTCDecodingConfig = field(default_factory=CTCDecodingConfig)


@hydra_runner(config_name="TranscriptionConfig", schema=TranscriptionConfig)
def main(cfg: Any) -> None:
    """What Hydra runs."""
    if code := transcribe(cfg):
        sys.exit(code)


@command
def transcribe(cfg: Any) -> None:
    """Transcribes and writes."""
    from nemo_bias.evaluation import read_manifest, write_manifest
    from nemo_bias.integration.decoding.explaining import check_explainable
    from nemo_bias.integration.decoding.transcription import audio_items, transcribe_items

    if cfg.decoder_type not in (None, "ctc"):
        raise ValueError(f"decoder_type is {cfg.decoder_type!r}; this script decodes with CTC only")
    if (cfg.dataset_manifest is None) == (cfg.audio_dir is None):
        raise ValueError("give either dataset_manifest=M.jsonl or audio_dir=FOLDER")
    source = Path(os.path.abspath(cfg.dataset_manifest or cfg.audio_dir))  # not where links lead
    output = Path(
        cfg.output_filename or source.with_name(f"{source.name if cfg.audio_dir else source.stem}_predicted.jsonl")
    )
    if not output.parent.is_dir():
        raise ValueError(f"output_filename={output}: there is no folder {output.parent}; make it")
    if cfg.dataset_manifest is not None:
        items, folder = read_manifest(source, ["audio_filepath"]), source.parent
    else:
        items, folder = audio_items(source), source
    if not items:
        raise ValueError(f"{source}: holds nothing to transcribe")
    if cfg.explain_missed and any("text" not in item for item in items):
        raise ValueError("explain_missed needs a manifest with the field text; give explain=[NAME] to ask for entities")
    model = restore(cfg)
    if hasattr(model, "ctc_decoding"):
        model.change_decoding_strategy(cfg.ctc_decoding, decoder_type="ctc", verbose=False)
    elif hasattr(model, "joint") or not hasattr(model, "change_decoding_strategy"):
        raise TypeError(f"{type(model).__name__} has no CTC decoder; give a CTC or hybrid model")
    else:
        model.change_decoding_strategy(cfg.ctc_decoding, verbose=False)
    if cfg.explain or cfg.explain_missed:
        check_explainable(model)
    results = transcribe_items(
        model,
        items,
        folder,
        manifest=cfg.dataset_manifest,
        timestamps=cfg.timestamps,
        progress=sys.stderr.isatty(),
        batch_size=cfg.batch_size,
        num_workers=cfg.num_workers,
    )
    write_manifest(output, results)
    if cfg.explain or cfg.explain_missed:
        explain(cfg, model, results, folder)
        write_manifest(output, results)
    found = sum(len(result["entity_spans"]) for result in results)
    print(f"{output}: {len(results)} utterances, {found} entities found")


def explain(cfg: Any, model: Any, results: list[dict[str, Any]], folder: Path) -> None:
    """Adds explanations to the results, and prints them."""
    from tqdm import tqdm

    from nemo_bias.evaluation.details import missed_entities
    from nemo_bias.integration.decoding.explaining import explain_item
    from nemo_bias.integration.decoding.model_lists import entities_in_use

    asked = [list(cfg.explain) for _ in results]
    if cfg.explain_missed:
        for names, missed in zip(asked, missed_entities(results, *entities_in_use(model)), strict=True):
            names += missed
    wanted = [(result, list(dict.fromkeys(names))) for result, names in zip(results, asked, strict=True) if names]
    for result, names in tqdm(wanted, desc="explaining", unit=" utterances", disable=not sys.stderr.isatty()):
        told = explain_item(model, result, names, folder)
        result["explanations"] = {name: str(each) for name, each in zip(names, told, strict=True)}
        tqdm.write(f"{result['audio_filepath']}: {result['pred_text']}", file=sys.stdout)
        for each in told:
            tqdm.write(f"  {each}", file=sys.stdout)


def restore(cfg: Any) -> Any:
    """The model, on the GPU if there is one."""
    if (cfg.model_path is None) == (cfg.pretrained_name is None):
        raise ValueError("give either model_path=MODEL.nemo or pretrained_name=NAME")
    if cfg.model_path is not None:
        return restore_model(cfg.model_path)
    from nemo.collections.asr.models import ASRModel

    return ASRModel.from_pretrained(cfg.pretrained_name).eval()


if __name__ == "__main__":
    quiet_nemo()
    main()
