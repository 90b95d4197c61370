"""The contextual adapter: proposals, alignment of whole entities, attention, masks, losses, and that it learns."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from nemo_bias.adapter import contextual_adapter, proposals
from nemo_bias.adapter.config import ContextualAdapterConfig
from nemo_bias.adapter.contextual_adapter import LEAST, PROPOSAL_WEIGHT, Biasing, ContextualAdapter, whole_entity_scores
from nemo_bias.adapter.entity_encoder import TokenLists
from nemo_bias.adapter.guide import NO_BIAS
from nemo_bias.adapter.losses import (
    BLANKS,
    SUBWORD_STAGE,
    BatchTargets,
    guided_attention_loss,
    keeping_loss,
    proposal_loss,
    spelling_loss,
)
from nemo_bias.adapter.proposals import UNLIKELY, WINDOW, EntityProposals

VOCABULARY, WIDTH, OUTPUT = 13, 16, 10
LISTED = [(1, 2, 3), (4,), (5, 6), (7, 8, 9, 10), (2, 11), (12, 1, 0)]
LENGTHS = torch.tensor([9, 5, 7])
pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(effect=True, layers=2, vocabulary=VOCABULARY, width=WIDTH, output=OUTPUT, seed=3, **options):
    """A tiny adapter with random weights, in training mode; with an effect, unless it is to be as it starts."""
    torch.manual_seed(seed)
    sizes = {"embedding_width": 12, "recurrent_width": 8, "entity_width": 12, "heads": 2, "head_width": 6}
    sizes |= {"context_layers": 2, "context_frames": 5, "longest_gap": 3, "most_entities": 50}
    adapter = ContextualAdapter(ContextualAdapterConfig(**sizes | options), layers, width, output, vocabulary)
    if effect:
        torch.nn.init.normal_(adapter.output.weight)
    return adapter


def outputs_of_layers(batch=3, frames=9, layers=2, width=WIDTH, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, frames, width, generator=draw) for _ in range(layers)]


def attend(adapter, layers=None, lengths=LENGTHS, listed=LISTED, most_entities=50, **options):
    adapter.config.most_entities = most_entities
    with torch.no_grad():
        return adapter(layers or outputs_of_layers(), lengths, adapter.encode(TokenLists.of(listed)), **options)


def offered_only(*rows):
    """[B, M] true where the row names the entity."""
    return torch.tensor([[m in row for m in range(len(LISTED))] for row in rows])


def subword_probabilities(found):
    """[B, T, H, K, S] of the third stage, without the no-bias entry."""
    return found.subword_log_probs[..., 1:].exp().unflatten(-1, (found.chosen.shape[1], -1))


# The match of whole entities


def best_sums(matches, length, gap):
    """The definition of `whole_entity_scores`, over all combinations of frames."""
    frames = matches.shape[1]
    best = torch.full((length, frames), LEAST)
    for chosen in itertools.combinations(range(frames), length):
        if all(later - earlier <= gap for earlier, later in itertools.pairwise(chosen)):
            total = sum(float(matches[s, t]) for s, t in enumerate(chosen))
            for s, t in enumerate(chosen):
                best[s, t] = max(float(best[s, t]), total)
    return best


@pytest.mark.parametrize("gap", [1, 2, 3, 9])
@pytest.mark.parametrize("frames", [1, 3, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_whole_entity_scores_are_the_best_sums(gap, frames, seed):
    torch.manual_seed(seed)
    lengths = torch.tensor([[1, 2, 3, 4], [4, 3, 1, 2]])
    matches = torch.randn(2, 4, 4, frames)
    scores = whole_entity_scores(matches, lengths, gap)
    assert scores.shape == matches.shape
    for index in itertools.product(range(2), range(4)):
        length = int(lengths[index])
        expected = best_sums(matches[index], length, gap)
        torch.testing.assert_close(scores[index][:length], expected)


def test_whole_entity_scores_have_a_least_value():
    matches = torch.full((1, 3, 5), UNLIKELY)
    assert torch.equal(whole_entity_scores(matches, torch.tensor([3]), 2), torch.full((1, 3, 5), LEAST))


def test_padding_subwords_mean_nothing():
    torch.manual_seed(0)
    matches, lengths = torch.randn(3, 4, 6), torch.tensor([1, 2, 3])
    other = matches.clone()
    for entity, length in zip(other, lengths, strict=True):
        entity[length:] += 7
    scores = [whole_entity_scores(each, lengths, 2) for each in (matches, other)]
    for first, second, length in zip(*scores, lengths, strict=True):
        assert torch.equal(first[:length], second[:length])


# Proposals


@pytest.mark.parametrize("frames", [1, 7, 8, 40])
def test_proposals_are_sums_of_the_best_tokens_of_a_window(frames):
    torch.manual_seed(0)
    scorer = EntityProposals(WIDTH, VOCABULARY)
    query, lengths = torch.randn(2, frames, WIDTH), (frames, (frames + 1) // 2)
    spoken = torch.arange(frames) < torch.tensor(lengths)[:, None]
    scores = scorer(query, spoken, tiny().encode(TokenLists.of(LISTED)).tokens)
    step = WINDOW // 2
    for b, length in enumerate(lengths):
        tokens = scorer.tokens(query[b, :length])
        windows = [tokens[max(0, t - step) : t + step] for t in range(0, frames + 1, step) if max(0, t - step) < length]
        for m, entity in enumerate(LISTED):
            expected = max(float(window.amax(dim=0)[list(entity)].sum()) for window in windows)
            assert float(scores[b, m]) == pytest.approx(expected, abs=1e-4)


def test_long_lists_are_scored_in_pieces(monkeypatch):
    whole = attend(tiny())
    monkeypatch.setattr(proposals, "PIECE", 4)
    torch.testing.assert_close(attend(tiny()).proposal_scores, whole.proposal_scores)


def test_only_proposed_entities_are_chosen():
    whole = attend(tiny())
    few = attend(tiny(proposed_entities=3))
    assert few.chosen.shape == (3, 3)
    for scores, chosen in zip(whole.proposal_scores, few.chosen, strict=True):
        assert sorted(chosen.tolist()) == sorted(scores.topk(3).indices.tolist())


def test_proposal_loss():
    scores = torch.tensor([[2.0, 1.0, 0.0, 5.0], [1.0, 1.0, 1.0, 1.0]])
    offered = torch.tensor([[True, True, True, False], [True] * 4])
    spoken = torch.tensor([[True, True, False, False], [False] * 4])
    expected = [-math.log(math.exp(score) / (math.exp(score) + math.exp(0.0))) for score in (2.0, 1.0)]
    assert float(proposal_loss(scores, offered, spoken)) == pytest.approx(sum(expected) / 2)
    assert float(proposal_loss(scores, offered, spoken & False)) == 0
    scores.requires_grad_()
    proposal_loss(scores, offered, offered).backward()  # nothing else is offered
    assert torch.equal(scores.grad, torch.zeros(2, 4))


# The adapter


def test_a_new_adapter_changes_nothing():
    found = attend(tiny(effect=False))
    assert torch.equal(found.bias, torch.zeros(3, 9, OUTPUT))
    assert attend(tiny()).bias.abs().min() > 0


def test_shapes_and_normalised_log_probs():
    found = attend(tiny(), most_entities=5)
    longest = max(len(LISTED[m]) for m in found.chosen.flatten())
    assert found.bias.shape == (3, 9, OUTPUT)
    assert found.entity_log_probs.shape == (3, 9, 1 + len(LISTED))
    assert found.chosen.shape == (3, 5)
    assert found.subword_log_probs.shape == (3, 9, 2, 1 + 5 * longest)
    for log_probs in (found.entity_log_probs, found.subword_log_probs):
        torch.testing.assert_close(log_probs.exp().sum(dim=-1), torch.ones(log_probs.shape[:-1]))


def test_evaluation_gives_the_same_without_what_training_needs(monkeypatch):
    monkeypatch.setattr(contextual_adapter, "LEAST_ATTENTION", 0.0)
    adapter = tiny()
    found = attend(adapter)
    evaluated = attend(adapter.eval())
    assert evaluated.entity_log_probs is None and evaluated.proposal_scores is None
    assert torch.equal(evaluated.bias, found.bias) and torch.equal(evaluated.subword_log_probs, found.subword_log_probs)


@pytest.mark.parametrize("heads", [1, 2])
def test_frames_with_little_attention_get_no_bias(monkeypatch, heads):
    adapter = tiny(heads=heads)
    trained = attend(adapter)
    attention = subword_probabilities(trained).sum(dim=(-1, -2)).mean(dim=2)  # [B, T]
    limit = float(attention.median()) + 1e-4
    monkeypatch.setattr(contextual_adapter, "LEAST_ATTENTION", limit)
    few = attention < limit
    assert 0 < few.sum() < few.numel() and ((attention - limit).abs() > 1e-5).all()
    assert attend(adapter).bias.abs().min() > 0  # training sees all frames
    evaluated = attend(adapter.eval())
    assert (evaluated.bias[few] == 0).all()
    assert torch.equal(evaluated.bias[~few], trained.bias[~few])
    assert torch.equal(evaluated.subword_log_probs, trained.subword_log_probs)


def test_without_a_no_bias_entry_every_frame_gets_a_bias(monkeypatch):
    monkeypatch.setattr(contextual_adapter, "LEAST_ATTENTION", 2.0)  # more than there is
    assert attend(tiny(no_bias=False).eval()).bias.abs().min() > 0
    assert (attend(tiny().eval()).bias == 0).all()


def test_attention_to_whole_entities():
    found = attend(tiny())
    probabilities = found.entity_probabilities()
    torch.testing.assert_close(probabilities, subword_probabilities(found).sum(dim=-1).mean(dim=2))


def test_subwords_beyond_an_entitys_end_get_nothing():
    found = attend(tiny())
    probabilities = subword_probabilities(found)
    lengths = torch.tensor([len(entity) for entity in LISTED])[found.chosen]
    beyond = torch.arange(4) >= lengths[..., None]  # [B, K, S]
    beyond = beyond[:, None, None].expand_as(probabilities)
    assert (probabilities[beyond] == 0).all() and (probabilities[~beyond] > 0).all()


def test_bias_is_made_of_the_attended_values():
    adapter = tiny(heads=1)
    encoded = adapter.encode(TokenLists.of(LISTED))
    found = attend(adapter)
    values = encoded.subword_values[found.chosen]  # [B, K, S, head_width]
    mixed = torch.einsum("btks,bksd->btd", subword_probabilities(found)[:, :, 0], values)
    torch.testing.assert_close(found.bias, adapter.output(mixed))


@pytest.mark.parametrize("most", [3, 50])
@pytest.mark.parametrize("reluctant", [False, True])
def test_an_utterance_is_the_same_in_a_padded_batch_and_alone(most, reluctant):
    adapter = tiny()
    if reluctant:  # no entity stands out in any frame
        with torch.no_grad():
            adapter.entity_query.bias.fill_(3)
            adapter.entity_no_bias.fill_(3)
    layers = outputs_of_layers()
    for layer in layers:
        for utterance, length in zip(layer, LENGTHS, strict=True):
            utterance[length:] = 100 * torch.randn(len(utterance) - length, WIDTH)
    together = attend(adapter, layers, most_entities=most)
    assert (together.entity_log_probs.argmax(dim=-1) == 0).all() == reluctant
    for b, length in enumerate(LENGTHS.tolist()):
        alone = attend(adapter, [layer[b : b + 1, :length] for layer in layers], LENGTHS[b : b + 1], most_entities=most)
        assert torch.equal(together.chosen[b], alone.chosen[0])
        torch.testing.assert_close(together.bias[b, :length], alone.bias[0])
        torch.testing.assert_close(together.entity_log_probs[b, :length], alone.entity_log_probs[0])
        subwords = [subword_probabilities(each) for each in (together, alone)]  # padded to the longest of a batch
        torch.testing.assert_close(subwords[0][b, :length, ..., : subwords[1].shape[-1]], subwords[1][0])


def test_lists_can_be_encoded_apart_and_joined():
    encoder = tiny().encoder
    whole = encoder(TokenLists.of(LISTED))
    for split in (1, 3, 5):
        first, second = (encoder(TokenLists.of(part)) for part in (LISTED[:split], LISTED[split:]))
        assert first.joined(second).lengths.tolist() == [len(entity) for entity in LISTED]
        for joined, together in zip(first.joined(second), whole, strict=True):
            assert joined.shape == together.shape
        torch.testing.assert_close(first.joined(second).keys, whole.keys)
        for name in ("subword_keys", "subword_values"):
            for a, b, entity in zip(getattr(first.joined(second), name), getattr(whole, name), LISTED, strict=True):
                torch.testing.assert_close(a[: len(entity)], b[: len(entity)])


def test_a_joined_list_biases_like_a_whole_one():
    adapter = tiny()
    with torch.no_grad():
        parts = [adapter.encode(TokenLists.of(part)) for part in (LISTED[:2], LISTED[2:])]
        joined = adapter(outputs_of_layers(), LENGTHS, parts[0].joined(parts[1]))
    whole = attend(adapter)
    assert torch.equal(joined.chosen, whole.chosen)
    torch.testing.assert_close(joined.bias, whole.bias)
    torch.testing.assert_close(joined.subword_log_probs.exp(), whole.subword_log_probs.exp())


@pytest.mark.parametrize("most", [2, 50])
def test_an_entity_that_is_not_offered_is_as_good_as_absent(most):
    adapter = tiny()
    rows = [(0, 2, 3), (1, 4, 5), (5, 0)]
    found = attend(adapter, offered=offered_only(*rows), most_entities=most)
    subwords = subword_probabilities(found)
    for b, row in enumerate(rows):
        kept_back = [m for m in range(len(LISTED)) if m not in row]
        assert (found.entity_log_probs[b, :, [1 + m for m in kept_back]].exp() == 0).all()
        out = torch.isin(found.chosen[b], torch.tensor(kept_back))
        assert (subwords[b][:, :, out] == 0).all()
        assert most > len(row) or not out.any()
        alone = attend(adapter, listed=[LISTED[m] for m in row], most_entities=most)
        torch.testing.assert_close(found.bias[b], alone.bias[b])
        assert [row[k] for k in alone.chosen[b]] == found.chosen[b, : len(alone.chosen[b])].tolist()


def test_nothing_offered_is_no_bias():
    found = attend(tiny(), offered=offered_only((0, 1), (), (3,)))
    assert found.bias[1].abs().max() < 1e-25  # too little to be added to anything
    assert found.bias[0].abs().min() > 1e-3


def test_the_entities_that_stand_out_most_are_chosen():
    found = attend(tiny(), most_entities=3)
    margin = found.entity_log_probs[..., 1:] - found.entity_log_probs[..., :1]
    for b, length in enumerate(LENGTHS):
        best = margin[b, :length].amax(dim=0) + PROPOSAL_WEIGHT * found.proposal_scores[b]
        assert found.chosen[b].tolist() == best.argsort(descending=True)[:3].tolist()


def test_required_entities_are_always_chosen():
    adapter = tiny()
    ordinary = attend(adapter, most_entities=2).chosen
    worst = attend(adapter).chosen[:, -1]  # of each utterance, which no choice of two would hold
    required = torch.nn.functional.one_hot(worst, len(LISTED)).bool()
    chosen = attend(adapter, most_entities=2, required=required).chosen
    assert chosen.shape == ordinary.shape == (3, 2)
    for before, now, entity in zip(ordinary.tolist(), chosen.tolist(), worst.tolist(), strict=True):
        assert entity not in before
        assert now == [entity, before[0]]


@pytest.mark.parametrize("most", [2, 50])
def test_without_a_no_bias_entry_all_attention_goes_to_entities(most):
    found = attend(tiny(no_bias=False), most_entities=most)
    assert (found.entity_log_probs[..., 0].exp() == 0).all()
    assert (found.subword_log_probs[..., 0].exp() == 0).all()
    torch.testing.assert_close(subword_probabilities(found).sum(dim=(-1, -2)), torch.ones(3, 9, 2))
    with_entry = attend(tiny(), most_entities=most)
    assert (with_entry.subword_log_probs[..., 0].exp() > 0).all()


@pytest.mark.parametrize("frames", [4, 0, -1])
def test_a_context_needs_a_centre(frames):
    with pytest.raises(ValueError, match=rf"contextual\.context_frames is {frames}; it must be odd"):
        tiny(context_frames=frames)


def test_token_lists():
    lists = TokenLists.of(LISTED[:3])
    assert lists.tokens.tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]
    assert lists.lengths.tolist() == [3, 1, 2]
    with pytest.raises(ValueError, match="no entities"):
        TokenLists.of([])
    with pytest.raises(ValueError, match="an entity without tokens"):
        TokenLists.of([(1, 2), ()])


# Training


def attention(entity_probabilities, chosen, subword_probabilities):
    """A Biasing of one utterance and one head from probabilities [T, 1 + M] and [T, 1 + K * S]."""
    first, second = torch.tensor(entity_probabilities), torch.tensor(subword_probabilities)
    return Biasing(torch.zeros(1), None, first.log()[None], torch.tensor([chosen]), second.log()[None, :, None])


BLANK = 2


def spoken(counted=(True,) * 4):
    """Four frames; the two tokens of entity 1 are spoken in the middle."""
    entity, position = torch.tensor([[NO_BIAS, 1, 1, NO_BIAS]]), torch.tensor([[0, 0, 1, 0]])
    return BatchTargets(entity, position, torch.tensor([[BLANK, 1, BLANK, BLANK]]), torch.tensor([counted]))


RIGHT = [[0.98, 0.01, 0.01], [0.01, 0.01, 0.98], [0.01, 0.01, 0.98], [0.98, 0.01, 0.01]]
RIGHT_SUBWORDS = [  # of the entities 1, 0
    [0.96, 0.01, 0.01, 0.01, 0.01],
    [0.01, 0.96, 0.01, 0.01, 0.01],
    [0.01, 0.01, 0.96, 0.01, 0.01],
    [0.96, 0.01, 0.01, 0.01, 0.01],
]


def guided(first=RIGHT, chosen=(1, 0), second=RIGHT_SUBWORDS, counted=(True,) * 4, share=0.3):
    return float(guided_attention_loss(attention(first, list(chosen), second), spoken(counted), spoken_share=share))


def swapped(rows, frame, a, b):
    rows = [list(row) for row in rows]
    rows[frame][a], rows[frame][b] = rows[frame][b], rows[frame][a]
    return rows


def test_guided_attention_loss_of_right_attention():
    assert guided() == pytest.approx(-math.log(0.98) - SUBWORD_STAGE * math.log(0.96), rel=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": swapped(RIGHT, 1, 1, 2)},  # the other entity
        {"first": swapped(RIGHT, 2, 0, 2)},  # none, where one is spoken
        {"first": swapped(RIGHT, 3, 0, 1)},  # one, where none is spoken
        {"second": swapped(RIGHT_SUBWORDS, 1, 1, 2)},  # the other subword
        {"second": swapped(RIGHT_SUBWORDS, 2, 2, 4)},  # the same place in the other entity
        {"second": swapped(RIGHT_SUBWORDS, 0, 0, 1)},
        {"chosen": (0, 1)},  # the third stage looks at the other entity
    ],
)
def test_guided_attention_loss_of_wrong_attention(wrong):
    assert guided(**wrong) > guided() + 0.3


def test_guided_attention_loss_needs_training_mode():
    found = attend(tiny().eval())
    with pytest.raises(ValueError, match="the adapter was not in training mode"):
        guided_attention_loss(found, spoken(), spoken_share=0.3)


def test_guided_attention_loss_weighs_frames():
    inside, outside = swapped(RIGHT, 1, 1, 2), swapped(RIGHT, 3, 0, 1)
    change = (math.log(0.98) - math.log(0.01)) / 2  # one of the two frames of its kind
    assert guided(first=inside) - guided() == pytest.approx(0.3 * change, rel=1e-4)
    assert guided(first=outside) - guided() == pytest.approx(0.7 * change, rel=1e-4)
    assert guided(first=inside, counted=(True, False, True, True)) == pytest.approx(guided(), rel=1e-4)
    assert guided(first=outside, share=1.0) == pytest.approx(guided(), rel=1e-4)
    only_outside = (True, False, False, True)
    assert guided(first=outside, counted=only_outside) - guided() == pytest.approx(change, rel=1e-4)
    assert guided(counted=(False,) * 4) == 0


def test_an_entity_that_is_not_chosen_counts_in_the_second_stage_only():
    second = swapped(swapped(RIGHT_SUBWORDS, 1, 1, 2), 2, 2, 4)  # wrong in both frames of the entity
    assert guided(chosen=(0, 0), second=second) == pytest.approx(guided(), rel=1e-4)


def test_keeping_loss():
    half, sure = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
    unbiased, biased = torch.stack([half, half, half, half]).log()[None], torch.stack([half, sure, half, sure]).log()[None]
    divergence = 0.5 * (math.log(0.5 / 0.9) + math.log(0.5 / 0.1))
    assert float(keeping_loss(unbiased, biased, spoken())) == pytest.approx(divergence / 2)  # of the frames 0 and 3
    assert float(keeping_loss(unbiased, biased, spoken((True, True, True, False)))) == 0
    assert float(keeping_loss(unbiased, biased, spoken((False,) * 4))) == 0


def test_spelling_loss():
    biased = torch.tensor([[[0.1, 0.1, 0.8], [0.1, 0.7, 0.2], [0.3, 0.1, 0.6], [0.8, 0.1, 0.1]]]).log()
    expected = -math.log(0.7) - BLANKS * math.log(0.6)  # of the frames 1 and 2
    assert float(spelling_loss(biased, spoken(), BLANK)) == pytest.approx(expected)
    assert float(spelling_loss(biased, spoken((True, False, True, True)), BLANK)) == pytest.approx(-BLANKS * math.log(0.6))
    assert float(spelling_loss(biased, spoken((False,) * 4), BLANK)) == 0


@pytest.mark.parametrize("context_layers", [1, 2])
def test_every_parameter_learns(context_layers):
    adapter = tiny(context_layers=context_layers, most_entities=4)
    found = adapter(outputs_of_layers(), LENGTHS, adapter.encode(TokenLists.of(LISTED)))
    (found.bias.square().sum() + found.proposal_scores.square().sum()).backward()
    still = [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_every_parameter_has_a_gradient_without_a_no_bias_entry():
    adapter = tiny(no_bias=False, most_entities=4)
    found = adapter(outputs_of_layers(), LENGTHS, adapter.encode(TokenLists.of(LISTED)))
    (found.bias.square().sum() + found.proposal_scores.square().sum() + found.entity_log_probs.square().sum()).backward()
    assert [name for name, p in adapter.named_parameters() if p.requires_grad and p.grad is None] == []


def test_a_new_adapter_can_start_to_learn():
    adapter = tiny(effect=False)
    found = adapter(outputs_of_layers(), LENGTHS, adapter.encode(TokenLists.of(LISTED)))
    found.bias.sum().backward()
    assert adapter.output.weight.grad.any()


class Speech:
    """Batches of synthetic speech: each token is a random vector over two frames, with noise; one entity is spoken."""

    tokens, width, batch, frames, listed = 32, 32, 16, 16, 8

    def __init__(self, seed):
        self.draw = torch.Generator().manual_seed(seed)
        self.sounds = torch.randn(self.tokens, self.width, generator=self.draw)

    def number(self, low, high):
        return int(torch.randint(low, high, (1,), generator=self.draw))

    def __call__(self):
        """Layers, lengths, a new list, and what is spoken where."""
        listed = [tuple(self.number(0, self.tokens) for _ in range(self.number(2, 4))) for _ in range(self.listed)]
        label = torch.randint(self.tokens, (self.batch, self.frames // 2), generator=self.draw)
        entity, position = torch.full_like(label, NO_BIAS), torch.zeros_like(label)
        for b in range(self.batch):
            m = self.number(0, self.listed)
            length = len(listed[m])
            place = slice(first := self.number(0, self.frames // 2 - length + 1), first + length)
            label[b, place], entity[b, place], position[b, place] = torch.tensor(listed[m]), m, torch.arange(length)
        entity, position, label = (each.repeat_interleave(2, dim=1) for each in (entity, position, label))
        targets = BatchTargets(entity, position, label, torch.ones_like(entity, dtype=torch.bool))
        sound = self.sounds[label]
        layers = [sound + 0.3 * torch.randn(sound.shape, generator=self.draw) for _ in range(2)]
        return layers, torch.full((self.batch,), self.frames), TokenLists.of(listed), targets


def test_it_learns_to_find_entities_that_it_never_saw():
    speech, steps = Speech(seed=5), 500
    sizes = {"embedding_width": 24, "recurrent_width": 16, "entity_width": 24, "heads": 1, "head_width": 24}
    adapter = tiny(vocabulary=speech.tokens, width=speech.width, output=speech.width, context_layers=1, **sizes)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(steps):
        layers, lengths, lists, targets = speech()
        found = adapter(layers, lengths, adapter.encode(lists))
        optimizer.zero_grad()
        guided_attention_loss(found, targets, spoken_share=0.5).backward()
        optimizer.step()
        schedule.step()

    right, right_subword, right_silence = [], [], []
    for _ in range(20):  # lists and sentences anew
        layers, lengths, lists, targets = speech()
        with torch.no_grad():
            found = adapter(layers, lengths, adapter.encode(lists))
        longest = int(lists.lengths.max())
        best = found.subword_log_probs[:, :, 0].argmax(dim=-1)
        attended = torch.where(best == 0, NO_BIAS, found.chosen.gather(1, (best - 1).clamp(min=0) // longest))
        inside, hit = targets.entity != NO_BIAS, attended == targets.entity
        right.append(hit[inside])
        right_subword.append(((best - 1) % longest == targets.position)[inside & hit])
        right_silence.append(hit[~inside])
    rates = [float(torch.cat(each).float().mean()) for each in (right, right_subword, right_silence)]
    assert min(rates) > 0.9, rates
