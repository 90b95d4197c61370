"""What the documentation names exists: commands, options, Python, links, and the messages that it explains."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

import nemo_bias
from nemo_bias.decoder.probability import TERMS
from nemo_bias.integration.decoding.config import BiasedBeamConfig, biased_beam_config
from nemo_bias.integration.encoder.adapter_config import BiasingAdapterConfig
from nemo_bias.options import typed_config

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "scripts" / "demo" / "README.md"]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
PROGRAMS = ("python", "pip", "lmplz", "build_binary", "source")
NEMO_SCRIPTS = ("transcribe_speech.py", "transcribe_speech_parallel.py", "train_asr_adapter.py")
OPTIONS = {option.name for option in dataclasses.fields(BiasedBeamConfig)}
BIASED_BEAM, ADAPTER = "ctc_decoding.biased_beam.", "model.adapter.biasing."


def page_id(path):
    return str(path.relative_to(ROOT))


def code_blocks(text):
    """Indented blocks, as (place of the first line, text without the indent)."""
    lines = text.splitlines()
    begin = None
    for k, line in enumerate([*lines, "end"]):
        if line.startswith("    ") and (begin is not None or k == 0 or not lines[k - 1].strip()):
            begin = k if begin is None else begin
        elif begin is not None and line.strip():
            yield begin + 1, "\n".join(each[4:] for each in lines[begin:k]).strip()
            begin = None


def commands():
    """(page and line, words) of each command in the pages and in the scripts' own descriptions."""
    texts = [(page_id(page), page.read_text(encoding="utf-8")) for page in PAGES]
    texts += [(page_id(script), ast.get_docstring(ast.parse(script.read_text()), clean=False) or "") for script in SCRIPTS]
    for name, text in texts:
        for line, block in code_blocks(text):
            for command in block.replace("\\\n", " ").splitlines():
                if command.partition(" ")[0] in PROGRAMS or "scripts/" in command or command.startswith(BIASED_BEAM):
                    yield pytest.param(shlex.split(command, comments=True), id=f"{name}:{line}")


class UnderstoodError(BaseException):
    """The arguments were parsed; what would follow is long work."""


def parse(script, arguments, monkeypatch):
    """Runs a script until it has parsed its arguments."""

    def stopping(original):
        def parse_args(parser, args=None, namespace=None):
            raise UnderstoodError(original(parser, args, namespace))

        return parse_args

    for name in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, name, stopping(getattr(argparse.ArgumentParser, name)))
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    monkeypatch.syspath_prepend(str(script.parent))
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, script.stem, module)
    spec.loader.exec_module(module)
    with pytest.raises(UnderstoodError) as understood:
        module.main()
    return understood.value.args[0]


def check_overrides(overrides):
    """Options in Hydra's form, as far as they are ours."""
    given = OmegaConf.from_dotlist([override.lstrip("+") for override in overrides])
    biased_beam_config(OmegaConf.select(given, BIASED_BEAM[:-1])).check()
    typed_config(BiasingAdapterConfig, OmegaConf.select(given, ADAPTER[:-1]) or {}, "adapter")
    ConfigStore.instance().store("program", OmegaConf.create({"ctc_decoding": {"biased_beam": BiasedBeamConfig}}))
    with initialize(None, version_base=None):  # as NeMo's programs read them
        compose("program", [override for override in overrides if override.lstrip("+").startswith(BIASED_BEAM)])


@pytest.mark.parametrize("words", commands())
def test_commands(words, monkeypatch):
    program, *arguments = words
    if program == "python":
        script, *arguments = arguments
        if Path(script).name in NEMO_SCRIPTS:
            check_overrides(arguments)
        elif script == "scripts/transcribe.py":
            check_overrides(arguments)
            names = {option.partition("=")[0].partition(".")[0] for option in arguments}
            assert names <= transcription_options()
        else:
            assert script.startswith("scripts/")
            parsed = parse(ROOT / script, arguments, monkeypatch)
            if script == "scripts/train_adapter.py":
                typed_config(BiasingAdapterConfig, OmegaConf.from_dotlist(parsed.options), "adapter")
    elif program == "pip":
        extras = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
        assert arguments[0] == "install"
        for extra in re.findall(r"nemo_bias\[(\w+)\]", " ".join(arguments)):
            assert f"\n{extra} = " in extras
    elif program.startswith(BIASED_BEAM):
        check_overrides(words)
    elif program not in PROGRAMS:
        assert (ROOT / program).stat().st_mode & 0o100, f"{program} is no program of this repository"


def transcription_options():
    source = ast.parse((ROOT / "scripts" / "transcribe.py").read_text())
    (config,) = [node for node in source.body if isinstance(node, ast.ClassDef)]
    return {field.target.id for field in config.body if isinstance(field, ast.AnnAssign)}


def test_commands_are_found():
    """The test above would also pass if it saw none."""
    found = [" ".join(each.values[0]) for each in commands()]
    named = {script.name for script in SCRIPTS if any(f"scripts/{script.name}" in command for command in found)}
    assert len(found) > 40 and len(named) > 12
    assert "scripts/quickstart" in found and any("train_asr_adapter.py" in command for command in found)


def fences(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


PYTHON = [pytest.param(block, id=page_id(page)) for page in PAGES for block in fences(page, "python")]


@pytest.mark.parametrize("block", PYTHON)
def test_python(block):
    tree = ast.parse(block)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "nemo_bias":
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nemo_bias":
            assert hasattr(nemo_bias, node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("nemo_bias.set_entities", "nemo_bias.use_entities"):
            assert {keyword.arg for keyword in node.keywords} <= OPTIONS


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=page_id(page)) for page in PAGES for block in fences(page, "yaml")]
)
def test_yaml(block):
    biased_beam_config(OmegaConf.create(block).ctc_decoding.biased_beam).check()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_what_is_named_in_the_text(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"biased_beam\.(\w+)", text):
        assert name in OPTIONS | {"yaml"}, name
    for name in re.findall(r"`nemo_bias\.([a-z_]+)[`(]", text):
        assert hasattr(nemo_bias, name) or importlib.util.find_spec(f"nemo_bias.{name}"), name
    for path in re.findall(r"`((?:scripts|configs|nemo_bias|docs|tests)/[\w/.-]+)`", text):
        assert (ROOT / path).exists(), path
    for option, value in re.findall(r"`(\w+)=([^`=]+)`", text):
        if option in OPTIONS:
            biased_beam_config(OmegaConf.from_dotlist([f"{option}={value}"]))


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links(page):
    for target in re.findall(r"\]\(([^)#:]*(?:#[\w-]+)?)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def test_every_page_is_reached_from_the_readme():
    text = PAGES[0].read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if page.parent.name == "docs" and f"(docs/{page.name}" not in text] == []


def source_strings():
    """All strings of the package's source, with … for what is filled in."""
    for path in sorted((ROOT / "nemo_bias").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)


def test_the_facts_of_the_evidence_are_told_as_they_are():
    text = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    assert dict(rows) == TERMS


def test_messages_that_are_explained_exist():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").split("\n## Messages\n")[1].split("\n## ")[0]
    source = "\n".join(source_strings())
    explained = re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE)
    assert len(explained) > 8
    for message in explained:
        for fragment in message.split("…"):
            assert fragment.strip() in source, message
