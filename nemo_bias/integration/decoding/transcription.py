"""Transcribes the utterances of a manifest, fields and all."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from nemo_bias.integration.decoding.manifest_entities import made_of
from nemo_bias.integration.model import best_hypotheses, frame_seconds

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus")


def audio_items(folder: str | Path) -> list[dict[str, Any]]:
    """A manifest item for each audio file below a folder, in the order of their paths."""
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    return [{"audio_filepath": str(path.relative_to(folder))} for path in files]


def transcribe_items(
    model: Any,
    items: Sequence[Mapping[str, Any]],
    folder: str | Path = ".",
    manifest: str | Path | None = None,
    timestamps: bool = False,
    progress: bool = False,
    **options: Any,
) -> list[dict[str, Any]]:
    """Transcribes manifest items with a NeMo CTC model.

    Args:
        model: a NeMo model, with whatever decoding strategy it has.
        items: each has `audio_filepath`; without `duration` (seconds), the audio file is asked. Other fields, such as
            `entities`, reach the decoder.
        folder: what relative audio paths are relative to.
        manifest: the file that the items were read from, for messages.
        timestamps: whether to add `timestamps_word` and the like, as NeMo's transcribe_speech.py does.
        progress: whether to show NeMo's progress bar.
        options: further arguments of `model.transcribe`, such as `batch_size`.

    Returns:
        The items in their order, with `pred_text` and `entity_spans`: a list of mappings with the keys entity, phrase,
        start and end (seconds), probability, asked_for, technique.

    Raises:
        EntityListError: the entities of an item are broken.
        FileNotFoundError: an audio file is missing.
        ValueError: a file is no audio.
        RuntimeError: NeMo has left out an utterance, as it does with audio that it cannot read.
    """
    if not items:
        return []
    lines = []
    for item in items:
        audio = Path(folder, item["audio_filepath"]).absolute()
        duration = _duration(audio)  # before the first batch, so that a broken file does not end a long run
        lines.append({**item, "audio_filepath": str(audio), "duration": item.get("duration", duration)})
    with tempfile.TemporaryDirectory() as temporary:
        written = Path(temporary, "utterances.jsonl")
        written.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        if manifest is not None:
            made_of(str(written), str(manifest))
        hypotheses = best_hypotheses(
            model.transcribe(
                str(written), return_hypotheses=True, timestamps=timestamps or None, verbose=progress, **options
            )
        )
    if len(hypotheses) != len(items):
        raise RuntimeError(f"NeMo has transcribed {len(hypotheses)} of {len(items)} utterances; is all audio readable?")
    frame = frame_seconds(model)
    return [_predicted(item, h, frame, timestamps) for item, h in zip(items, hypotheses, strict=True)]


def _duration(audio: Path) -> float:
    """Seconds of an audio file, as NeMo's own reader finds them."""
    from lhotse import Recording  # type: ignore[import-untyped]

    if not audio.is_file():
        raise FileNotFoundError(f"no audio file {audio}; check audio_filepath, or where relative paths start")
    try:
        with redirect_stdout(io.StringIO()):  # it says what it tries
            return float(Recording.from_file(audio).duration)
    except Exception as error:  # of any of the libraries that NeMo's reader tries
        raise ValueError(f"{audio} is no audio that NeMo can read; convert it to WAV or FLAC, or leave it out") from error


def _predicted(item: Mapping[str, Any], hypothesis: Any, frame: float, timestamps: bool) -> dict[str, Any]:
    """The item with what was recognised; a frame lasts `frame` seconds."""
    spans = [
        {
            "entity": span.entity,
            "phrase": span.phrase,
            "start": round(span.start * frame, 3),
            "end": round((span.end + 1) * frame, 3),
            "probability": None if span.probability is None else round(span.probability, 3),
            "asked_for": None if span.asked_for is None else round(span.asked_for, 3),
            "technique": span.technique,
        }
        for span in getattr(hypothesis, "entity_spans", ())
    ]
    predicted = {**item, "pred_text": hypothesis.text, "entity_spans": spans}
    if timestamps:
        for kind in ("char", "word", "segment"):
            entries = hypothesis.timestamp.get(kind, [])
            predicted[f"timestamps_{kind}"] = [
                {key: value.item() if hasattr(value, "item") else value for key, value in entry.items()} for entry in entries
            ]
    return predicted
