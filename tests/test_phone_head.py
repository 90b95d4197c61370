"""The phone head, its labels, its loss and its error rate, without NeMo."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nemo_bias.adapter.config import PhoneHeadConfig
from nemo_bias.adapter.phone_head import BLANK, PhoneHead, phone_errors, phone_loss
from nemo_bias.adapter.phone_labels import PhoneLabels
from nemo_bias.pronunciation import PHONES
from nemo_bias.pronunciation.phones import read_phones

WIDTH = 16


def head(**config):
    torch.manual_seed(0)
    return PhoneHead(PhoneHeadConfig(**config), WIDTH).eval()


def spoken(*utterances, confidence=20.0):
    """Log-probs in which each sub-frame is sure of a phone or the blank; padded with phones that are not spoken."""
    frames = max(map(len, utterances))
    scores = torch.zeros(len(utterances), frames, len(PHONES) + 1)
    for row, path in zip(scores, utterances, strict=True):
        for frame, phone in enumerate([*path, *[1] * (frames - len(path))]):
            row[frame, phone] = confidence
    return scores.log_softmax(dim=-1), torch.tensor([len(path) for path in utterances])


@pytest.mark.parametrize("sub_frames", [1, 3, 4])
def test_every_frame_has_several_sub_frames(sub_frames):
    layer = torch.randn(2, 7, WIDTH)
    log_probs = head(sub_frames=sub_frames)(layer, torch.tensor([7, 4]))
    assert log_probs.shape == (2, 7 * sub_frames, len(PHONES) + 1)
    torch.testing.assert_close(log_probs.exp().sum(dim=-1), torch.ones(2, 7 * sub_frames))


def test_sub_frames_are_in_the_order_of_time():
    """A change in a frame changes its own sub-frames, and those within the context."""
    one = head(sub_frames=3, context_frames=3)
    layer = torch.randn(1, 9, WIDTH)
    other = layer.clone()
    other[0, 4] += 1
    lengths = torch.tensor([9])
    changed = (one(layer, lengths) != one(other, lengths)).any(dim=-1)[0].nonzero()[:, 0].tolist()
    assert changed == list(range(3 * 3, 3 * 6))


def test_padding_does_not_matter():
    one = head(context_frames=5)
    layer = torch.randn(1, 6, WIDTH)
    padded = torch.cat([layer, torch.randn(1, 3, WIDTH)], dim=1)
    alone, beside = one(layer, torch.tensor([6])), one(padded, torch.tensor([6]))
    torch.testing.assert_close(beside[:, : alone.shape[1]], alone)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"context_frames": 4}, "phones.context_frames is 4; it must be odd"),
        ({"sub_frames": 0}, "phones.sub_frames is 0; it must be at least 1"),
        ({"hidden_width": 0}, "phones.hidden_width is 0; it must be at least 1"),
    ],
)
def test_sizes_that_make_no_sense(config, message):
    with pytest.raises(ValueError, match=message):
        head(**config)


def test_the_error_rate_counts_substitutions_deletions_and_insertions():
    b = BLANK
    log_probs, lengths = spoken([5, 5, b, 5, 7, b], [b, 3], [b, b, 9], [4])
    # right; 8 deleted; 9 instead of 2, 6 deleted; not counted
    labels = [(5, 5, 7), (3, 8), (2, 6), None]
    assert phone_errors(log_probs, lengths, labels) == (3, 7)
    assert phone_errors(log_probs[:1], lengths[:1], [()]) == (3, 0)  # inserted


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=3),
    st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=3, max_size=3),
)
def test_the_error_rate_is_the_edit_distance(written, labels):
    paths = [[symbol for phone in own for symbol in (phone, BLANK)] or [BLANK] for own in written]
    labels = labels[: len(paths)]
    errors, count = phone_errors(*spoken(*paths), [tuple(own) for own in labels])
    assert count == sum(map(len, labels))
    assert errors == sum(map(distance, written, labels))


def distance(a, b):
    """Levenshtein's, by its definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))


def test_the_loss_is_that_of_ctc():
    """Against a sum over all paths."""
    rng = np.random.default_rng(0)
    log_probs = torch.from_numpy(rng.standard_normal((1, 4, len(PHONES) + 1))).log_softmax(dim=-1)
    label = (2, 2)
    total = -np.inf
    for path in itertools.product([2, BLANK], repeat=4):
        if tuple(phone for phone, _ in itertools.groupby(path) if phone != BLANK) == label:
            total = np.logaddexp(total, sum(log_probs[0, t, phone].item() for t, phone in enumerate(path)))
    assert float(phone_loss(log_probs, torch.tensor([4]), [label])) == pytest.approx(-total / 2)


def test_what_cannot_be_written_does_not_count():
    """Too many phones for the sub-frames, or a word without a pronunciation; gradients stay finite."""
    torch.manual_seed(0)
    scores = torch.randn(4, 3, len(PHONES) + 1, requires_grad=True)
    lengths = torch.tensor([3, 3, 2, 3])
    labels = [(1, 2), (1, 1, 2), (1, 2, 3), None]  # two equal phones need a blank between them
    loss = phone_loss(scores.log_softmax(dim=-1), lengths, labels)
    loss.backward()
    assert scores.grad.isfinite().all()
    assert scores.grad[0].any() and not scores.grad[1:].any()
    assert float(loss) == pytest.approx(float(phone_loss(scores[:1].log_softmax(dim=-1), lengths[:1], labels[:1])))
    assert float(phone_loss(scores.log_softmax(dim=-1), lengths, [None] * 4)) == 0


def test_a_head_learns_what_it_hears():
    torch.manual_seed(0)
    one = head(sub_frames=2, hidden_width=32)
    sounds = torch.randn(5, WIDTH)
    labels = [(0, 1, 2), (3, 4), (2, 2, 0)]
    layer = torch.nn.utils.rnn.pad_sequence([sounds[list(own)] for own in labels], batch_first=True)
    lengths = torch.tensor([3, 2, 3])
    optimizer = torch.optim.Adam(one.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        phone_loss(one(layer, lengths), lengths * 2, labels).backward()
        optimizer.step()
    assert phone_errors(one(layer, lengths), lengths * 2, labels) == (0, 8)


def test_labels_are_the_first_pronunciations(tmp_path):
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("tomato T AH M EY T OW\nread 0.3 R EH D\nread(2) 0.7 R IY D\n")
    labels = PhoneLabels(lexicon)
    labels.learn(["read tomato"])
    assert labels.of("read tomato read") == read_phones("R IY D T AH M EY T OW R IY D")
    assert labels.of("") == labels.of("' -") == ()
    assert labels.of("read 北京") is None
    assert PhoneLabels().of("thames") != ()
