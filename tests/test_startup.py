"""NeMo, Hydra and Lightning start whatever happens in this package."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import types

import pytest
from unprivileged import ROOT, run_unprivileged, unwritable_copy

from nemo_bias.integration.registration import hook, patches, targets

LIGHT = """
import sys, nemo.collections.asr
loaded = {name for name in sys.modules if name.startswith("nemo_bias.")}
heavy = ("nemo_bias.decoder.", "nemo_bias.pronunciation", "nemo_bias.compiled")
print("heavy", sorted(name for name in loaded if name.startswith(heavy)))
print("installed", "nemo_bias.integration.decoding.strategy" in loaded)
"""


@pytest.fixture(scope="module")
def nobody(tmp_path_factory):
    return unwritable_copy(tmp_path_factory.mktemp("nobody") / "packages")


def test_nemo_imports_where_nothing_can_be_written(nobody):
    shown = run_unprivileged(nobody, LIGHT)
    assert "heavy ['nemo_bias.decoder.config', 'nemo_bias.decoder.vocabulary']" in shown
    assert "installed True" in shown and "nemo_bias:" not in shown


ANOTHER_NEMO = {  # a change to NeMo, made while it is imported, and what is said of it
    "another signature": (
        "nemo.collections.asr.parts.submodules.ctc_decoding",
        "module.AbstractCTCDecoding.__init__ = lambda self, cfg, blank, something_new: None",
        "AbstractCTCDecoding.__init__ has other parameters",
    ),
    "a class less": (
        "nemo.collections.asr.parts.mixins.asr_adapter_mixins",
        "module = types.ModuleType(module.__name__); modules = sys.modules",
        "AttributeError: module 'nemo.collections.asr.parts.mixins.asr_adapter_mixins' has no attribute "
        "'ASRAdapterModelMixin'",
    ),
}
CHANGED = """
import sys, types, warnings
from nemo_bias.integration.registration import hook, patches
extend = hook._extend
def changed(module):
    if module.__name__ == {name!r}:
        {change}
    extend(module)
hook._extend = changed
warnings.simplefilter("error", RuntimeWarning)
import nemo.collections.asr
from nemo.collections.asr.models.ctc_models import EncDecCTCModel
from nemo.collections.asr.parts.submodules.ctc_decoding import AbstractCTCDecoding
from nemo.core.classes.common import ALLOWED_TARGET_PREFIXES
changed = [EncDecCTCModel.predict_step, AbstractCTCDecoding.__init__]
print("left alone", not any(hasattr(each, "nemo_bias") for each in changed) and "nemo_bias." not in ALLOWED_TARGET_PREFIXES)
import nemo_bias
for ask in (lambda: nemo_bias.set_entities(None, []), lambda: nemo_bias.load_adapter(None, "a.pt")):
    try:
        ask()
    except RuntimeError as error:
        print("asked:", error)
from nemo_bias.integration.registration.callbacks import callbacks
print("callbacks", callbacks())
"""


@pytest.mark.parametrize("case", ANOTHER_NEMO)
def test_an_unknown_nemo_is_left_alone(case):
    name, change, said = ANOTHER_NEMO[case]
    program = CHANGED.format(name=name, change=change)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    sentence = f"nemo_bias does not know this NeMo: {said}; install nemo_toolkit 3.0"
    assert done.stderr.count(f"{sentence}. Until then it stays out, and no entity list is used.") == 1
    assert "left alone True" in done.stdout
    assert done.stdout.count(f"asked: {sentence}") == 2 and "callbacks []" in done.stdout


@pytest.fixture
def fresh_patches(monkeypatch):
    monkeypatch.setattr(patches, "_undo", [])
    monkeypatch.setattr(patches, "_out", [])


def test_all_is_undone_and_said_once(fresh_patches, caplog):
    class Stock:
        def run(self, batch, more=0):
            return batch

    def wrapper(original):
        return lambda self, batch, *args, **kwargs: original(self, batch, *args, **kwargs) + 1

    original = Stock.run
    patches.attempt(lambda: patches.wrap_method(Stock, "run", wrapper))
    assert Stock().run(1) == 2
    with caplog.at_level(logging.WARNING, logger="nemo_bias"):
        for _ in range(2):
            patches.attempt(lambda: patches.wrap_method(Stock, "gone", wrapper))
    assert len(caplog.records) == 1 and Stock.run is original
    patches.attempt(lambda: patches.wrap_method(Stock, "run", wrapper))
    assert Stock().run(1) == 1
    with pytest.raises(patches.UnknownNeMoError, match="gone"):
        patches.check_registered()


@pytest.mark.parametrize(
    ("replacement", "fits"),
    [
        (lambda self, a, b: None, True),
        (lambda self, a, *args, **kwargs: None, True),
        (lambda self, *args, **kwargs: None, True),
        (lambda self, a: None, False),
        (lambda self, b, *args: None, False),
        (lambda self, a, b, c: None, False),
    ],
)
def test_parameters(replacement, fits, fresh_patches):
    class Stock:
        def run(self, a, b):
            pass

    if fits:
        patches.wrap_method(Stock, "run", lambda original: replacement)
        assert hasattr(Stock.run, "nemo_bias")
    else:
        with pytest.raises(patches.UnknownNeMoError, match=r"Stock\.run has other parameters"):
            patches.wrap_method(Stock, "run", lambda original: replacement)


def test_a_setting_of_another_kind(fresh_patches):
    module = types.ModuleType("nemo.core.classes.common")
    module.ALLOWED_TARGET_PREFIXES, module.ALLOWED_ADAPTER_STRATEGY_PREFIXES = ["nemo."], ("nemo.",)
    patches.attempt(lambda: targets.apply(module))
    assert module.ALLOWED_TARGET_PREFIXES == ["nemo."]
    with pytest.raises(patches.UnknownNeMoError, match="ALLOWED_ADAPTER_STRATEGY_PREFIXES is gone"):
        patches.check_registered()


def test_a_module_less(fresh_patches, monkeypatch):
    for name in hook.EXTENSIONS:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    collection = types.ModuleType(hook.COLLECTION)
    hook._extend(collection)
    patches.check_registered()
    monkeypatch.delitem(sys.modules, "nemo.collections.asr.models.hybrid_rnnt_ctc_models")
    hook._extend(collection)
    with pytest.raises(patches.UnknownNeMoError, match=r"asr does not import nemo.*\.hybrid_rnnt_ctc_models"):
        patches.check_registered()


def test_errors_in_hydra_and_lightning_are_caught(fresh_patches, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "nemo.core", sys)
    monkeypatch.setitem(sys.modules, "nemo_bias.integration.training.adapter_training", None)
    from nemo_bias.integration.registration.callbacks import callbacks

    with caplog.at_level(logging.WARNING, logger="nemo_bias"):
        assert callbacks() == []
    assert "ModuleNotFoundError" in caplog.text
    patches._out.clear()
    caplog.clear()
    monkeypatch.setitem(sys.modules, "nemo_bias.integration.registration.hydra_nodes", None)
    from hydra_plugins.nemo_bias_plugin import BiasedBeamNodes

    with caplog.at_level(logging.WARNING, logger="nemo_bias"):
        BiasedBeamNodes().manipulate_search_path(None)
    assert "ModuleNotFoundError" in caplog.text


def test_the_callback_loads_nothing_for_other_models():
    program = """
import sys, time, torch, nemo.core
import lightning.pytorch as pl
class Plain(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Linear(2, 2)
    def training_step(self, batch, index):
        return self.encoder(batch[0]).sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(4, 2)))
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer = pl.Trainer(max_epochs=1, accelerator="cpu", **quiet)
print("there", [type(each).__name__ for each in trainer.callbacks].count("AdapterTraining"))
trainer.fit(Plain(), data)
heavy = ("nemo_bias.adapter", "nemo_bias.decoder", "nemo_bias.pronunciation", "nemo_bias.integration.encoder")
print("loaded", [name for name in sys.modules if name.startswith(heavy)])
"""
    env = dict(os.environ, CUDA_VISIBLE_DEVICES="")
    shown = subprocess.check_output([sys.executable, "-c", program], cwd=ROOT, env=env, text=True, timeout=300)
    assert "there 1" in shown and "loaded []" in shown
