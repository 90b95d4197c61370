"""A program in the shape of NeMo's transcribe_speech.py and transcribe_speech_parallel.py; it knows nothing of nemo_bias.

Writes to `output_filename` a JSON object with the texts from `model.transcribe`, and from `Trainer.predict` with `predict`.
"""

import json
from dataclasses import dataclass, field
from typing import Optional

import lightning.pytorch as ptl
from nemo.collections.asr.models import ASRModel
from nemo.collections.asr.models.configs import ASRDatasetConfig
from nemo.collections.asr.parts.submodules.ctc_decoding import CTCDecodingConfig
from nemo.core.config import TrainerConfig, hydra_runner
from omegaconf import MISSING, OmegaConf


@dataclass
class ProgramConfig:
    model_path: str = MISSING
    dataset_manifest: str = MISSING
    output_filename: str = MISSING
    predict: bool = False
    predict_ds: ASRDatasetConfig = field(
        default_factory=lambda: ASRDatasetConfig(return_sample_id=True, num_workers=0, batch_size=1, min_duration=0)
    )
    ctc_decoding: CTCDecodingConfig = field(default_factory=CTCDecodingConfig)
    decoder_type: Optional[str] = None  # noqa: UP045
    trainer: TrainerConfig = field(default_factory=lambda: TrainerConfig(devices=1, accelerator="cpu"))


@hydra_runner(config_name="ProgramConfig", schema=ProgramConfig)
def main(cfg):
    model = ASRModel.restore_from(restore_path=cfg.model_path, map_location="cpu").eval()
    model.change_decoding_strategy(cfg.ctc_decoding)
    results = {"transcribe": [h.text for h in model.transcribe(cfg.dataset_manifest, batch_size=1, return_hypotheses=True)]}
    if cfg.predict:
        results["predict"] = predict(model, cfg, use_lhotse=False)
        results["predict_lhotse"] = predict(model, cfg, use_lhotse=True)
    with open(cfg.output_filename, "w") as file:
        json.dump(results, file)


def predict(model, cfg, use_lhotse):
    model.eval()
    config = OmegaConf.merge(cfg.predict_ds, {"manifest_filepath": cfg.dataset_manifest, "sample_rate": 16000})
    OmegaConf.set_struct(config, False)
    trainer_config = dict(cfg.trainer, logger=False, enable_progress_bar=False)
    if use_lhotse:
        trainer_config["use_distributed_sampler"] = False
        config.update(
            use_lhotse=True, force_finite=True, force_map_dataset=True, do_transcribe=True, global_rank=0, world_size=1
        )
    trainer = ptl.Trainer(**trainer_config)
    batches = trainer.predict(model, model._setup_dataloader_from_config(config), return_predictions=True)
    return [getattr(text, "text", text) for batch in batches for _, text in batch]


if __name__ == "__main__":
    main()
