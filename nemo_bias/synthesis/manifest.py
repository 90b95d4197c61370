"""Synthetic speech for the training of an adapter, as a NeMo manifest.

An output folder holds ``manifest.jsonl``, the audio in ``audio/`` and ``arguments.json``. The manifest grows line by line in
the order of the utterances, so that an interrupted run can be continued.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nemo_bias.evaluation.manifest import read_manifest
from nemo_bias.synthesis.sentences import (
    SLOT,
    Sentence,
    SynthesisError,
    Utterance,
    read_exclusion,
    read_names,
    read_sentences,
    utterances,
    writable_characters,
)
from nemo_bias.synthesis.speech import LONGEST, SHORTEST, Speech, check_packages, speak

SHARD = 1000  # audio files in a folder


@dataclass(frozen=True)
class SynthesisConfig:
    """What is to be spoken.

    Attributes:
        sentences: manifest or text file with the sentences; see `read_sentences`.
        hours: audio to make; the last utterance goes beyond it.
        names: entity list whose names fill the slots of the sentences; without it the sentences are spoken as they are.
        exclude: manifests whose ``entities`` must stay unheard. A name that shares a word with one of these entities is
            not used, nor is a sentence that contains one as whole words, be it in a slot or not.
        insert: with names, the probability that one of them takes the place of a random word of 4 or more letters in a
            sentence without slots.
        seed: decides all that is random, 0 or more.
    """

    sentences: str
    hours: float
    names: str | None = None
    exclude: tuple[str, ...] = ()
    insert: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "hours": (0 < self.hours < float("inf"), "a number above 0"),
            "insert": (0 <= self.insert <= 1, "a probability from 0 to 1"),
            "seed": (self.seed >= 0, "a number from 0"),
        }
        for name, (is_valid, limit) in limits.items():
            if not is_valid:
                raise SynthesisError(f"{name} is {getattr(self, name)}; give {limit}")


@dataclass(frozen=True)
class Material:
    """Sentences and names that may be used.

    Attributes:
        sentences: the sentences.
        names: the names as the sentences write them; none if the sentences are spoken as they are.
        sentences_excluded, names_excluded: how many were left out because they must stay unheard.
        unwritable: a sentence for each name that cannot be written in the characters of the sentences.
        notes: sentences on how the names were changed.
    """

    sentences: tuple[Sentence, ...]
    names: tuple[str, ...]
    sentences_excluded: int
    names_excluded: int
    unwritable: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SynthesisSummary:
    """What an output folder holds.

    Attributes:
        manifest: the manifest's path.
        utterances: its lines.
        continued: how many of them an earlier run made.
        seconds: of audio.
        not_kept: utterances that were left out as shorter than SHORTEST or longer than LONGEST.
        distinct_entities: how many different entities are said.
        material: what was spoken.
    """

    manifest: Path
    utterances: int
    continued: int
    seconds: float
    not_kept: int
    distinct_entities: int
    material: Material


def synthesize(
    config: SynthesisConfig,
    output: str | Path,
    workers: int = 1,
    progress: Callable[[float], object] = lambda seconds: None,
) -> SynthesisSummary:
    """Make speech, or continue a run with the same config that was interrupted.

    Args:
        config: what is to be spoken.
        output: folder to write; it is made if it is missing.
        workers: processes. The result does not depend on it.
        progress: is called with the seconds of each utterance that is written, and of all that an earlier run wrote.

    Returns:
        What the folder then holds.

    Raises:
        SynthesisError: the material or a setting cannot be used, a sentence cannot be spoken, or the folder holds a
            manifest that the config does not give.
        ManifestError, EntityListError: a file of the config is not valid.
        ModuleNotFoundError: a package of the optional extra ``synthesis`` is missing.
        OSError: a file cannot be read or written.
    """
    if workers < 1:
        raise SynthesisError(f"workers is {workers}; use 1 or more")
    check_packages()
    material = prepare(config)
    plan = utterances(material.sentences, material.names, config.insert, config.seed)
    manifest = Path(output) / "manifest.jsonl"
    _check_arguments(config, manifest)
    lines = _lines_done(manifest, plan)
    continued = len(lines)
    seconds = sum(line["duration"] for line in lines)
    progress(seconds)
    with open(manifest, "a", encoding="utf-8", newline="\n") as file, closing(_spoken(plan, config.seed, workers)) as spoken:
        while seconds < 3600 * config.hours:
            utterance, speech = next(spoken)
            if speech.flac:
                lines.append(_write_audio(utterance, speech, manifest.parent))
                file.write(json.dumps(lines[-1], ensure_ascii=False) + "\n")
                file.flush()
                seconds += speech.duration
                progress(speech.duration)
            elif utterance.number - _last_number(lines) > len(material.sentences):
                limits = f"from {SHORTEST} to {LONGEST} s"
                raise SynthesisError(f"{config.sentences}: none of the sentences takes {limits}; give others")
    entities = {entity for line in lines for entity in line["entities"]}
    not_kept = _last_number(lines) + 1 - len(lines)
    return SynthesisSummary(manifest, len(lines), continued, seconds, not_kept, len(entities), material)


def prepare(config: SynthesisConfig) -> Material:
    """Read the files of a config and leave out what must stay unheard.

    Raises:
        SynthesisError: nothing is left, or a sentence has a slot and there are no names.
        ManifestError, EntityListError: a file is not valid.
        OSError: a file cannot be read.
    """
    sentences = read_sentences(config.sentences)
    alphabet = writable_characters(sentences)
    exclusion = read_exclusion(config.exclude, alphabet)
    kept = tuple(sentence for sentence in sentences if not exclusion.forbids_sentence(sentence.text))
    if not kept:
        raise SynthesisError(f"{config.sentences}: all sentences are excluded; give others")
    if config.names is None:
        pattern = next((sentence for sentence in kept if SLOT in sentence.phrases), None)
        if pattern:
            raise SynthesisError(f'{config.sentences}: "{pattern.text}" has a slot; give a list of names')
        return Material(kept, (), len(sentences) - len(kept), 0, (), ())
    listed = read_names(config.names, alphabet)
    names = tuple(name for name in listed.phrases if not exclusion.forbids_name(name))
    if not names:
        raise SynthesisError(f"{config.names}: no name is left that can be written and is not excluded; give others")
    left_out = len(sentences) - len(kept), len(listed.phrases) - len(names)
    return Material(kept, names, *left_out, listed.unwritable, listed.notes)


def _check_arguments(config: SynthesisConfig, manifest: Path) -> None:
    """Writes the arguments of a new folder, or compares them with those of its manifest."""
    path = manifest.with_name("arguments.json")
    asked: dict[str, Any] = json.loads(json.dumps(asdict(config)))  # as they are read back: tuples are lists
    if manifest.exists():
        other_folder = "choose another output folder"
        if not path.exists():
            raise SynthesisError(f"{manifest}: exists, but was not made by this command; {other_folder}")
        used = json.loads(path.read_text(encoding="utf-8"))
        for name in asked:
            if asked[name] != used.get(name):
                reason = f"made with {name} = {json.dumps(used.get(name))}, not {json.dumps(asked[name])}"
                raise SynthesisError(f"{manifest}: {reason}; give the same arguments or {other_folder}")
    else:
        manifest.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asked, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _lines_done(manifest: Path, plan: Iterator[Utterance]) -> list[dict[str, Any]]:
    """The lines of an earlier run; the plan is then at the first utterance after them."""
    if not manifest.exists():
        return []
    _drop_torn_line(manifest)
    lines = read_manifest(manifest, ["audio_filepath", "duration", "text", "entities"])
    for line in lines:
        number = _number(line)
        utterance = next(utterance for utterance in plan if utterance.number >= number)
        if (utterance.text, list(utterance.entities)) != (line["text"], line["entities"]):
            reason = f'holds "{line["text"]}" where the sentences and names give "{utterance.text}"'
            raise SynthesisError(f"{manifest}: {reason}; restore these files or choose another output folder")
    return lines


def _drop_torn_line(path: Path) -> None:
    """Cuts off the last line if it was not written to its end."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _audio_path(number: int) -> str:
    return f"audio/{number // SHARD:04d}/{number:07d}.flac"


def _number(line: dict[str, Any]) -> int:
    """The utterance's number of a line that this module wrote."""
    return int(Path(line["audio_filepath"]).stem)


def _last_number(lines: list[dict[str, Any]]) -> int:
    """The number of the last utterance that was kept, -1 if there is none."""
    return _number(lines[-1]) if lines else -1


def _write_audio(utterance: Utterance, speech: Speech, folder: Path) -> dict[str, Any]:
    """Writes the audio file; returns the line of the manifest."""
    name = _audio_path(utterance.number)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(speech.flac)
    return {
        "audio_filepath": name,
        "duration": speech.duration,
        "text": utterance.text,
        "entities": list(utterance.entities),
    }


def _spoken(plan: Iterable[Utterance], seed: int, workers: int) -> Generator[tuple[Utterance, Speech], None, None]:
    """The utterances with their speech, in order."""
    if workers == 1:
        yield from ((utterance, speak(utterance, seed)) for utterance in plan)
        return
    # Forked processes would inherit threads of the caller, such as torch's, in an unusable state.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_depend_on_parent)
    pending: deque[tuple[Utterance, Future[Speech]]] = deque()
    try:
        for utterance in plan:
            pending.append((utterance, pool.submit(speak, utterance, seed)))
            if len(pending) > 8 * workers:  # enough that no process waits for a long sentence of another
                first, speech = pending.popleft()
                yield first, speech.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _depend_on_parent() -> None:
    """Leaves it to the parent process to handle an interrupt, and ends this process with it, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
