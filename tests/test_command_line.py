"""Scripts end in one line that names what is wrong and what to do, with exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nemo_bias.command_line import command
from nemo_bias.decoder.config import METHODS, DecodingOptions
from nemo_bias.messages import one_line

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_ends_by_the_same_mechanism(script):
    source = script.read_text()
    assert source.count("\n@command\n") == 1 and "except (" not in source


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("names.txt:3: text is\n  empty"), "names.txt:3: text is empty"),
        (FileNotFoundError(2, "No such file or directory", "m.jsonl"), "m.jsonl: No such file or directory; check the path"),
        (PermissionError(13, "Permission denied", "a.pt"), "a.pt: Permission denied; check who may read and write it"),
        (OSError(28, "No space left on device", "a.pt"), "a.pt: No space left on device; choose another file"),
        (RuntimeError(), "RuntimeError"),
        (ModuleNotFoundError("No module named 'hibari'"), "No module named 'hibari'"),
    ],
)
def test_an_error_is_one_line(error, line, capsys):
    def main():
        raise error

    assert command(main)() == 2
    assert capsys.readouterr().err == f"test_command_line.py: {line}\n"
    assert one_line(error) == line


def test_exit_codes(capsys):
    def interrupted():
        raise KeyboardInterrupt("the same command continues")

    assert command(lambda: None)() == 0 and command(lambda: 1)() == 1
    assert command(interrupted)() == 130
    assert capsys.readouterr().err == "test_command_line.py: interrupted; the same command continues\n"
    with pytest.raises(ZeroDivisionError):  # a fault of ours keeps its traceback
        command(lambda: 1 // 0)()


WRONG = {  # script and arguments in a folder with some files, and the last line
    "no audio file": (
        ["plot_attention.py", "no.wav", "--model", "m.nemo", "--entity-file", "l.txt"],
        "no audio file no.wav; check the path",
    ),
    "no list": (
        ["check_entities.py", "no.txt", "--pronunciations"],
        "no.txt: cannot be read (No such file or directory); give the",
    ),
    "no manifest": (
        ["evaluate.py", "no.jsonl", "--entity-file", "l.txt"],
        "no.jsonl: the manifest cannot be read (No such file",
    ),
    "no lexicon": (["measure_g2p.py", "no.dict"], "no.dict: cannot be read"),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "l.txt").write_text("Oslo\n")
    (tmp_path / "m.nemo").write_text("no archive\n")
    (tmp_path / "no_audio.wav").write_text("no audio\n")
    (tmp_path / "adapter.pt").write_text("no adapter\n")
    line = {"audio_filepath": "no_audio.wav", "duration": 1.0, "text": "oslo", "entities": ["oslo"]}
    (tmp_path / "m.jsonl").write_text(json.dumps(line) + "\n")
    return tmp_path


@pytest.mark.parametrize("case", WRONG)
def test_what_scripts_say(case, folder):
    (script, *arguments), said = WRONG[case]
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"{script}: {said}") and done.stderr.count("\n") == 1


def test_a_checkpoint_that_is_no_archive(folder):
    from nemo_bias.integration.model import restore_model

    with pytest.raises(ValueError, match=r"m\.nemo is no NeMo checkpoint, which is a tar archive; give a \.nemo file"):
        restore_model(folder / "m.nemo")
    with pytest.raises(FileNotFoundError):
        restore_model(folder / "no.nemo")


def test_an_archive_that_is_no_checkpoint(folder):
    import tarfile

    from nemo_bias.integration.model import restore_model

    with tarfile.open(folder / "a.nemo", "w") as archive:
        archive.add(folder / "l.txt", "l.txt")
    with pytest.raises(ValueError, match=r"a\.nemo: NeMo cannot restore it \(FileNotFoundError: "):
        restore_model(folder / "a.nemo")


def test_nothing_is_logged_but_errors_and_what_this_package_says(capsys):
    from nemo.utils import logging

    from nemo_bias.integration.model import _worth_telling

    def record(level, text):
        return SimpleNamespace(levelno=level, getMessage=lambda: text)

    assert not _worth_telling(record(logging.WARNING, "If you intend to do training"))
    assert _worth_telling(record(logging.ERROR, "If you intend to do training"))
    assert _worth_telling(record(logging.INFO, "nemo_bias: names.txt:3: a note"))


def test_audio_that_is_none_is_named_before_the_first_batch(folder):
    from nemo_bias.integration.decoding.transcription import transcribe_items

    with pytest.raises(ValueError, match=r"no_audio\.wav is no audio that NeMo can read; convert it"):
        transcribe_items(None, [{"audio_filepath": "no_audio.wav", "duration": 1.0}], folder)
    with pytest.raises(FileNotFoundError, match=r"no audio file .*none\.wav; check audio_filepath"):
        transcribe_items(None, [{"audio_filepath": "none.wav"}], folder)


def test_training_looks_at_its_data_first(folder):
    from nemo_bias.integration.training.cached_training import TrainingRun

    run = TrainingRun(train=[folder / "m.jsonl"], output=folder / "a.pt", cache=folder / "cache")
    with pytest.raises(ValueError, match=r"no_audio\.wav is no audio that can be read .*; convert it to WAV or FLAC"):
        run.check()
    run.train = [folder / "no.jsonl"]
    with pytest.raises(ValueError, match=r"no\.jsonl: the manifest cannot be read"):
        run.check()


def test_a_transducer_is_refused_before_anything_is_encoded():
    from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder

    from nemo_bias.integration.encoder.conformer import check_encoder

    class RNNTBPEDecoding:
        pass

    encoder = object.__new__(ConformerEncoder)
    model = type("EncDecRNNTBPEModel", (), {"encoder": encoder, "decoding": RNNTBPEDecoding(), "decoder": object()})()
    with pytest.raises(TypeError, match="EncDecRNNTBPEModel has no CTC decoder; nemo_bias needs a CTC or hybrid model"):
        check_encoder(model)


def test_a_text_file_is_no_adapter(folder):
    from nemo_bias.integration.encoder.adapter_file import AdapterFileError, read_adapter_file

    with pytest.raises(AdapterFileError) as error:
        read_adapter_file(folder / "adapter.pt")
    assert str(error.value).startswith(f"{folder / 'adapter.pt'}: not an adapter file that NeMo saved; give one that holds")
    assert "weights_only" not in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("given", "meant"), [("gready", "greedy"), ("arc", "arcs"), ("adaptiv", "adaptive")])
def test_a_misspelt_method(given, meant):
    with pytest.raises(
        ValueError, match=rf'method is \'{given}\', did you mean "{meant}"\?; choose one of {", ".join(METHODS)}'
    ):
        DecodingOptions(method=given).check()


@pytest.mark.parametrize("name", ["weight", "boost", "token_margin", "phone_weight", "lookup_distance"])
def test_a_negative_number_is_called_by_its_name(name):
    with pytest.raises(ValueError, match=rf"^{name} is -1\.0; give (a finite number of )?0 or more$"):
        DecodingOptions(**{name: -1.0}).check()
