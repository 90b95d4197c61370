"""The picture of an adapter's attention, and where its numbers come from."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from nemo_bias.evaluation.attention_plot import (
    DOTS_PER_INCH,
    INCHES_PER_SECOND,
    LONGEST_SECONDS,
    Attention,
    TimedWord,
    changed_words,
    plot_attention,
    spread,
)
from nemo_bias.integration.encoder.attention import attention_of, timed_words

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "scripts" / "demo"
LIST = DEMO / "entities.txt"
CLIP = DEMO / "clips" / "cv-common_voice_en_37172186.opus"
FRAME = 0.08  # seconds


def made_up(spoken=range(20, 30), frames=100, entities=("tesla", "new york"), every=5):
    """Attention to the first entity in some frames, and a word every few frames."""
    probabilities = np.zeros((frames, 1 + len(entities)), np.float32)
    probabilities[:, 0] = 1
    probabilities[list(spoken), :2] = (0.1, 0.9)
    words = tuple(TimedWord("word", t * FRAME, (t + 2) * FRAME) for t in range(0, frames - 2, every))
    recognised = tuple(k == 0 for k in range(len(entities)))
    return Attention("clip.wav", FRAME, tuple(entities), recognised, probabilities, words, words)


def drawn(attention, folder):
    """The picture's pixels [height, width, RGB]."""
    path = folder / "attention.png"
    plot_attention(attention, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    return imread(path)[..., :3]


# The picture


def test_pixels_differ_where_attention_does(tmp_path):
    first, second = made_up(spoken=range(20, 30)), made_up(spoken=range(60, 70))
    differs = (drawn(first, tmp_path) != drawn(second, tmp_path)).any(axis=2)
    columns, rows = np.flatnonzero(differs.any(axis=0)), np.flatnonzero(differs.any(axis=1))
    frame = FRAME * INCHES_PER_SECOND * DOTS_PER_INCH  # pixels
    apart = np.flatnonzero(np.diff(columns) > frame)
    assert len(apart) == 1  # two spots
    assert abs(columns[apart[0] + 1] - columns[0] - 40 * frame) <= 2
    assert abs(apart[0] + 1 - 10 * frame) <= 2
    assert len(rows) < differs.shape[0] / 2  # only in the rows of no bias and the first entity
    assert np.array_equal(drawn(first, tmp_path), drawn(first, tmp_path))


def test_size_follows_duration_and_entities(tmp_path):
    def size(frames, entities):
        names = [f"entity {k}" for k in range(entities)]
        return drawn(made_up(range(3), frames, names), tmp_path).shape[:2]

    (height, width), (long_height, long_width) = size(25, 12), size(250, 12)  # 2 and 20 seconds
    assert 500 < height < 900 and 700 < width < 1200
    assert long_width - width > 15 * INCHES_PER_SECOND * DOTS_PER_INCH
    assert abs(long_height - height) < 100
    assert size(25, 1)[0] < height


def test_crowded_words_are_turned(tmp_path):
    few, many = made_up(every=10), made_up(every=3)
    assert drawn(many, tmp_path).shape[0] > drawn(few, tmp_path).shape[0]


@pytest.mark.parametrize(
    "change",
    [
        {"audio": "$x_1$" + "y" * 300 + ".wav", "entities": ("$a^$", "an entity that is " + "very " * 20 + "long")},
        {"words": (), "words_without": ()},
        {"words": tuple(TimedWord("word", FRAME, 2 * FRAME) for _ in range(200))},
        {"words": (TimedWord("word" * 50, 0.0, 100 * FRAME),), "words_without": ()},
        {"entities": (), "recognised": (), "probabilities": np.ones((100, 1), np.float32)},
    ],
    ids=["odd texts", "no words", "too many words", "a long word", "no entities"],
)
def test_odd_contents_are_drawn(tmp_path, change):
    height, width = drawn(replace(made_up(), **change), tmp_path).shape[:2]
    assert 200 < height < 1000 and width < 2000


def test_bold_and_coloured_text(tmp_path):
    plain = made_up()
    other = (*plain.words[:3], plain.words[3]._replace(text="ward"), *plain.words[4:])
    pictures = [
        drawn(each, tmp_path)
        for each in (plain, replace(plain, recognised=(False, False)), replace(plain, words_without=other))
    ]
    assert all(not np.array_equal(a, b) for a, b in pairwise(pictures))
    orange = [((p[..., 0] > 0.7) & (p[..., 2] < 0.1) & (p[..., 1] < 0.3)).any() for p in pictures]
    assert orange == [False, False, True]


def test_the_suffix_says_the_format(tmp_path):
    plot_attention(made_up(), tmp_path / "picture.svg")
    assert "<svg" in (tmp_path / "picture.svg").read_text()
    with pytest.raises(ValueError, match="not supported"):
        plot_attention(made_up(), tmp_path / "picture.txt")


@pytest.mark.parametrize("frames", [0, int(LONGEST_SECONDS / FRAME) + 1])
def test_durations_that_make_no_picture(tmp_path, frames):
    with pytest.raises(ValueError, match=r"clip\.wav has \d+ seconds"):
        plot_attention(made_up((), frames), tmp_path / "picture.png")


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"expected \[T, 2\] and 1 for 1 entities"):
        replace(made_up(), entities=("tesla",))


def test_spread():
    assert spread([0, 5, 9], [1, 1], 0, 9).tolist() == [0, 5, 9]  # far enough apart
    assert spread([4, 4, 4], [1, 2], 0, 9) == pytest.approx([4 - 4 / 3, 5 - 4 / 3, 7 - 4 / 3])
    assert spread([0, 0], [1], 0, 9).tolist() == [0, 1]
    assert spread([9, 9], [1], 0, 9).tolist() == [8, 9]
    assert spread([1, 2, 3], [9, 9], 0, 9).tolist() == [0, 4.5, 9]  # not enough room
    assert spread([], [], 0, 9).tolist() == []


@pytest.mark.parametrize("seed", range(2))
def test_spread_moves_no_more_than_needed(seed):
    from scipy.optimize import minimize

    rng = np.random.default_rng(seed)
    places, gaps = np.sort(rng.uniform(0, 10, 6)), rng.uniform(0.5, 2, 5)
    limits = [{"type": "ineq", "fun": lambda x, k=k: x[k + 1] - x[k] - gaps[k]} for k in range(5)]
    limits += [{"type": "ineq", "fun": lambda x: x[0]}, {"type": "ineq", "fun": lambda x: 10 - x[-1]}]
    best = minimize(lambda x: ((x - places) ** 2).sum(), places, constraints=limits)
    assert spread(places, gaps, 0, 10) == pytest.approx(best.x, abs=1e-3)


def test_changed_words():
    def words(text):
        return [TimedWord(word, 0.0, 0.0) for word in text.split()]

    heard, before = words("the hydro one in brampton"), words("the hi dro one brampton")
    assert changed_words(heard, before) == [False, True, False, True, False]
    assert changed_words(before, heard) == [False, True, True, False, False]
    assert changed_words(heard, []) == [True] * 5


def test_times_of_words(subwords, characters):
    path = [subwords.pieces.index(p) if p else subwords.blank for p in ["", "▁to", "▁to", "", "on", "▁no", "", "r", "r", ""]]
    assert timed_words(path, subwords, 0.5) == (TimedWord("toon", 0.5, 2.5), TimedWord("nor", 2.5, 4.5))
    path = [characters.pieces.index(p) if p else characters.blank for p in ["▁", "t", "o", "", "o", "▁", "", "n", "o", "▁"]]
    assert timed_words(path, characters, 1) == (TimedWord("too", 1, 5), TimedWord("no", 7, 9))
    assert timed_words([subwords.blank] * 3, subwords, 1) == timed_words([], subwords, 1) == ()


# The numbers


@pytest.fixture(scope="module")
def stock(one_thread):
    from nemo.collections.asr.models import ASRModel

    return ASRModel.restore_from(str(DEMO / "demo.nemo"), map_location="cpu").eval()


@pytest.fixture(scope="module")
def model(stock):
    """The bundled model with an adapter of random weights, strong enough to change what is written."""
    with pytest.raises(ValueError, match="the model has no biasing adapter"):
        attention_of(stock, CLIP, LIST)
    import torch

    from nemo_bias import BiasingAdapterConfig

    torch.manual_seed(0)
    config = BiasingAdapterConfig()
    config.contextual.heads = 2
    config.contextual.most_entities = 20
    stock.add_adapter("names", cfg=config)
    torch.nn.init.normal_(stock.encoder.adapter_layer["names"].contextual.output.weight)
    return stock.eval()


@pytest.fixture(scope="module")
def attention(model):
    return attention_of(model, CLIP, LIST)


def text_of(words):
    return " ".join(word.text for word in words)


def test_attention_is_that_of_the_third_stage(model, attention, monkeypatch):
    adapter, kept = model.encoder.adapter_layer["names"], []
    keep = adapter.observe
    monkeypatch.setattr(adapter, "observe", lambda encoded, found: (kept.append(found), keep(encoded, found)))
    again = attention_of(model, str(CLIP), str(LIST), most_entities=3)
    (found,) = (each.biasing for each in kept)  # the first pass is without the adapter
    assert again.entities == attention.entities[:3] and adapter.found is None
    frames = len(again.probabilities)
    shares = found.subword_log_probs[0, :frames].double().exp().mean(dim=1).numpy()
    assert again.probabilities[:, 0] == pytest.approx(shares[:, 0], abs=1e-5)
    names = [line for line in LIST.read_text().split("\n") if line]
    longest = (shares.shape[1] - 1) // 20
    for name, column in zip(again.entities, again.probabilities.T[1:], strict=True):
        first = 1 + longest * found.chosen[0].tolist().index(names.index(name))
        assert column == pytest.approx(shares[:, first : first + longest].sum(axis=1), abs=1e-5)


def test_probabilities_sum_to_one_at_most(attention):
    assert attention.probabilities.min() >= 0
    assert attention.probabilities.sum(axis=1).max() <= 1 + 1e-5
    best = attention.probabilities[:, 1:].max(axis=0)
    assert len(best) == 12 and (np.diff(best) <= 0).all()
    assert attention.seconds == pytest.approx(5.4, abs=0.1)
    assert attention.frame_seconds == pytest.approx(FRAME)
    assert attention.audio == CLIP.name


def test_words_are_those_of_greedy_decoding(model, attention):
    from nemo_bias import remove_entities, set_entities

    set_entities(model, str(LIST), method="greedy")
    assert text_of(attention.words) == model.transcribe([str(CLIP)], verbose=False)[0].text
    remove_entities(model)
    assert text_of(attention.words_without) == model.transcribe([str(CLIP)], verbose=False)[0].text
    assert text_of(attention.words) != text_of(attention.words_without)
    for word in attention.words:
        assert 0 <= word.start < word.end <= attention.seconds + 1e-6


def test_recognised_entities(model, attention, monkeypatch):
    weight = model.encoder.adapter_layer["names"].contextual.output.weight
    monkeypatch.setattr(weight, "data", weight.new_zeros(weight.shape))  # so that the text is known
    said = " ".join(text_of(attention.words_without).split()[1:3])
    found = attention_of(model, CLIP, [said.upper(), said + "s", "somewhere else"])
    assert found.words == found.words_without == attention.words_without
    assert dict(zip(found.entities, found.recognised, strict=True)) == {
        said.upper(): True,
        said + "s": False,
        "somewhere else": False,
    }


def test_the_way_of_decoding_is_kept(model):
    from nemo_bias import set_entities

    set_entities(model, ["hydro one"], weight=3, beam_size=5)
    before = model.cfg.decoding.copy()
    model.train()
    attention_of(model, CLIP, ["tesla"])
    assert model.training
    model.eval()
    assert model.cfg.decoding == before
    assert model.decoding.decoding.config.beam_size == 5
    with pytest.raises(ValueError, match="holds no entities"):
        attention_of(model, CLIP, ["東京"])
    assert model.cfg.decoding == before


# Errors, and the script


def test_errors(model, tmp_path, monkeypatch):
    empty, noise = tmp_path / "empty.txt", tmp_path / "noise.wav"
    empty.write_text("\n")
    noise.write_text("no audio")
    with pytest.raises(FileNotFoundError, match=r"no audio file no\.wav"):
        attention_of(model, "no.wav", LIST)
    with pytest.raises(ValueError, match="there is no entity list"):
        attention_of(model, CLIP, ())
    with pytest.raises(ValueError, match=r"empty\.txt: it holds no entities"):
        attention_of(model, CLIP, empty)
    with pytest.raises(ValueError, match=r"names\.txt: cannot be read"):
        attention_of(model, CLIP, tmp_path / "names.txt")
    with pytest.raises(ValueError, match="most_entities is 0"):
        attention_of(model, CLIP, LIST, 0)
    with pytest.raises(RuntimeError, match=r"Error opening .*noise\.wav"):
        attention_of(model, noise, LIST)
    model.set_enabled_adapters("names", enabled=False)
    with pytest.raises(ValueError, match=r"0 of the model's biasing adapters \(names\) are enabled"):
        attention_of(model, CLIP, LIST)
    model.set_enabled_adapters("names", enabled=True)
    monkeypatch.setenv("NEMO_BIAS", "off")
    with pytest.raises(ValueError, match="switched off by the environment variable NEMO_BIAS"):
        attention_of(model, CLIP, LIST)


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("plot_attention", ROOT / "scripts" / "plot_attention.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_script(script, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("nemo_bias.integration.model.restore_model", lambda path, device: model)
    picture = tmp_path / "attention.png"
    options = ["--model", str(DEMO / "demo.nemo"), "--entity-file", str(LIST), "--output", str(picture)]
    assert script.main([str(CLIP), *options, "--entities", "3"]) == 0
    assert imread(picture).shape[0] > 300
    assert capsys.readouterr().out.startswith(f"{picture}: 5.4 seconds, 3 entities")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["no.wav", "--model", "no.nemo"], "no audio file no.wav"),
        ([str(CLIP), "--model", "no.nemo"], "no model no.nemo"),
        ([str(CLIP), "--model", str(LIST), "--entity-file", "no.txt"], "no.txt: cannot be read"),
    ],
)
def test_script_says_what_is_wrong(script, capsys, arguments, message):
    assert script.main(["--entity-file", str(LIST), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("plot_attention.py: ") and message in error and error.count("\n") == 1
