import re

import numpy as np
import pytest
from conftest import random_log_probs

from nemo_bias.evaluation.log_probs_file import read_log_probs, write_log_probs

OFFSETS, FRAMES = np.array([0, 2, 2, 5]), np.zeros((5, 4), np.float32)


def test_what_was_written_is_read(tmp_path):
    rng = np.random.default_rng(0)
    log_probs = [random_log_probs(rng, frames, 4) for frames in (3, 0, 2)]
    write_log_probs(tmp_path / "l.npz", log_probs)
    read = read_log_probs(tmp_path / "l.npz", 3, 4)
    assert [each.shape for each in read] == [(3, 4), (0, 4), (2, 4)]
    for before, after in zip(log_probs, read, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)
        assert after.dtype == np.float32


def test_logits_are_normalised(tmp_path):
    logits = np.array([[1.0, 2.0, -np.inf], [500.0, 500.0, 0.0]])
    np.savez(tmp_path / "l.npz", offsets=[0, 2], log_probs=logits)
    (read,) = read_log_probs(tmp_path / "l.npz", 1)
    np.testing.assert_allclose(np.exp(read), [[0.2689414, 0.7310586, 0], [0.5, 0.5, 0]], atol=1e-6)


def test_tenths_of_nats(tmp_path):
    tenths = np.array([[7, 7, 120], [0, 120, 255]], np.uint8)
    np.savez(tmp_path / "l.npz", offsets=[0, 1, 2], nats_tenths=tenths)
    first, second = read_log_probs(tmp_path / "l.npz", 2, 3)
    assert first[0, 0] == first[0, 1] == pytest.approx(np.log(0.5), abs=1e-4)
    assert first[0, 2] - first[0, 0] == pytest.approx(-11.3, abs=1e-4)
    assert second[0].tolist() == pytest.approx([0, -12, -25.5], abs=1e-4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"offsets": OFFSETS[1:] - 2, "log_probs": FRAMES[2:]}, "2 utterances, but the manifest has 3"),
        ({"offsets": OFFSETS, "log_probs": FRAMES[:, :3]}, "3 columns, but the tokenizer's tokens and the blank make 4"),
        ({"offsets": OFFSETS, "log_probs": FRAMES[:4]}, "offsets go from 0 to 5; there are 4 frames"),
        ({"offsets": OFFSETS + 1, "log_probs": FRAMES}, "offsets go from 1 to 6; there are 5 frames"),
        ({"offsets": OFFSETS[::-1], "log_probs": FRAMES}, "offsets are not rising integers"),
        ({"offsets": OFFSETS / 1, "log_probs": FRAMES}, "offsets are not rising integers"),
        ({"offsets": OFFSETS, "log_probs": FRAMES[0]}, "log-probs are float32 [4]; make them floats [frames, V]"),
        ({"offsets": OFFSETS, "nats_tenths": FRAMES}, "log-probs are float32 [5, 4]; make them uint8 [frames, V]"),
        ({"offsets": OFFSETS}, "holds offsets; give offsets and log_probs or nats_tenths"),
        ({"log_probs": FRAMES}, "holds log_probs; give"),
        ({"logits": FRAMES}, "holds neither; give"),
        ({"offsets": OFFSETS, "log_probs": FRAMES, "nats_tenths": FRAMES}, "holds offsets and log_probs and nats_tenths; "),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, arrays, message):
    path = tmp_path / "l.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}"):
        read_log_probs(path, 3, 4)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_other_files(tmp_path, content):
    (tmp_path / "l.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"l\.npz: not an \.npz file of arrays"):
        read_log_probs(tmp_path / "l.npz", 1)
    np.save(tmp_path / "l.npy", FRAMES)
    with pytest.raises(ValueError, match=r"l\.npy: not an \.npz file of arrays"):
        read_log_probs(tmp_path / "l.npy", 1)
    with pytest.raises(FileNotFoundError):
        read_log_probs(tmp_path / "none.npz", 1)
