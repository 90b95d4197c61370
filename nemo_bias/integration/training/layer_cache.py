"""What the frozen encoder makes of a training set, computed once and kept on disk.

Only the adapter is trained, so the encoder would compute the same layers in every epoch. For each utterance the cache holds
the tapped layers and the encoder's output side by side, in half precision. Several *copies* of a set make up for the
augmentation that a cache rules out: the first is clean, the others vary pace, room and noise and pass SpecAugment.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from nemo_bias.adapter.augmentation import varied
from nemo_bias.evaluation.audio import read_audio
from nemo_bias.evaluation.manifest import read_manifest
from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter

ENCODED_FIELDS = ("audio_filepath", "text", "duration")  # of a manifest that can be encoded
BATCH_SECONDS = 120.0  # of audio that is encoded at a time


@dataclass(frozen=True)
class CachedUtterance:
    """An utterance of a cache.

    Attributes:
        number: its place in the manifest, from 0.
        text: its transcript.
        first: its first frame in the cache.
        frames: how many it has.
    """

    number: int
    text: str
    first: int
    frames: int


class LayerCache:
    """The encoded utterances of one copy of a manifest.

    Args:
        folder: where `encode_manifest` wrote it.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.utterances = [CachedUtterance(*row) for row in index["utterances"]]
        self._widths: list[int] = index["widths"]
        self._values = np.memmap(folder / "layers.bin", np.float16, "r").reshape(-1, sum(self._widths))

    def read(self, utterance: CachedUtterance) -> list[Tensor]:
        """The tapped layers and the encoder's output, [frames, width] each, in single precision."""
        values = np.asarray(self._values[utterance.first : utterance.first + utterance.frames], np.float32)
        return list(torch.split(torch.from_numpy(values), self._widths, dim=1))


def encode_manifest(
    model: Any, adapter: BiasingAdapter, manifest: Path, copy: int, folder: Path, audio_dir: Path | None = None
) -> LayerCache:
    """Encodes one copy of a manifest, unless the cache has it.

    Args:
        model: NeMo model, in evaluation mode.
        adapter: says which layers are wanted.
        manifest: with `audio_filepath`, `text` and `duration` in each line.
        copy: 0: clean; others: varied, each in its own way.
        folder: of all caches.
        audio_dir: where relative audio paths start; by default the manifest's folder.

    Raises:
        AudioError: its audio cannot be read.
        ManifestError: the manifest is broken.
    """
    items = read_manifest(manifest, ENCODED_FIELDS)
    audio_dir = audio_dir or manifest.parent
    own = folder / f"{manifest.stem}-{copy}-{_key(model, adapter, manifest, audio_dir)}"
    if (own / "index.json").exists():
        return LayerCache(own)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{own.name}.", dir=folder))  # another process may encode the same
    widths = [adapter.recogniser.width] * len(adapter.tapped) + [adapter.recogniser.output_width]
    outputs: dict[int, Tensor] = {}
    hooks = [
        model.encoder.layers[layer - 1].register_forward_hook(
            lambda module, args, output, layer=layer: outputs.__setitem__(
                layer, output[0] if isinstance(output, tuple) else output
            )
        )
        for layer in adapter.tapped
    ]
    rows: list[tuple[int, str, int, int]] = []
    first = 0
    try:
        with (
            open(unfinished / "layers.bin", "wb") as file,
            torch.inference_mode(),
            tqdm(total=sum(item["duration"] for item in items), desc=f"{manifest.name}, copy {copy}", unit="s") as progress,
        ):
            for chosen in _batches(items):
                audio = [_read(audio_dir, items[k], copy, k) for k in chosen]
                encoded, lengths = _encode(model, audio, augment=copy > 0)
                values = torch.cat([*(outputs[layer] for layer in adapter.tapped), encoded.transpose(1, 2)], dim=2)
                for k, own_values, length in zip(chosen, values.half().cpu(), lengths.tolist(), strict=True):
                    file.write(own_values[:length].numpy().tobytes())
                    rows.append((k, items[k]["text"], first, length))
                    first += length
                    progress.update(items[k]["duration"])
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    finally:
        for hook in hooks:
            hook.remove()
    (unfinished / "index.json").write_text(json.dumps({"widths": widths, "utterances": rows}), encoding="utf-8")
    try:
        unfinished.rename(own)
    except OSError:
        if not (own / "index.json").exists():
            raise
        shutil.rmtree(unfinished)  # the other process was faster
    return LayerCache(own)


def _key(model: Any, adapter: BiasingAdapter, manifest: Path, audio_dir: Path) -> str:
    """Changes with the manifest, the folder of its audio, the tapped layers and the weights of the encoder."""
    digest = hashlib.sha256(manifest.read_bytes())
    digest.update(repr((str(manifest.resolve()), str(audio_dir.resolve()), adapter.tapped)).encode())
    for name, parameter in model.encoder.named_parameters():
        if name.startswith("adapter_layer."):  # what is trained
            continue
        digest.update(parameter.detach().flatten()[:16].cpu().float().numpy().tobytes())
    return digest.hexdigest()[:12]


def _batches(items: Sequence[dict[str, Any]]) -> list[list[int]]:
    """Utterances of like length, together at most BATCH_SECONDS with their padding."""
    batches: list[list[int]] = []
    for k in sorted(range(len(items)), key=lambda k: float(items[k]["duration"])):
        if not batches or float(items[k]["duration"]) * (len(batches[-1]) + 1) > BATCH_SECONDS:
            batches.append([])
        batches[-1].append(k)
    return batches


def _read(audio_dir: Path, item: dict[str, Any], copy: int, number: int) -> NDArray[np.float32]:
    mono = read_audio(audio_dir / item["audio_filepath"])
    return varied(mono, np.random.default_rng((copy, number))) if copy else mono


def _encode(model: Any, audio: Sequence[NDArray[np.float32]], augment: bool) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(each) for each in audio], device=model.device)
    signal = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(each) for each in audio], batch_first=True)
    features, lengths = model.preprocessor(input_signal=signal.to(model.device), length=lengths)
    if augment and getattr(model, "spec_augmentation", None) is not None:
        features = model.spec_augmentation(input_spec=features, length=lengths)
    encoded, lengths = model.encoder(audio_signal=features, length=lengths)
    return encoded, lengths
