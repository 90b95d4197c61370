"""Phonetic rescoring: the hypothesis that fits the phones best comes first, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import PIECES, random_log_probs, speak, weights_file
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.decoder.rescoring import PhoneticRescorer, phonetic_costs
from nemo_bias.decoder.search import BiasedBeamSearch
from nemo_bias.decoder.transcript import SPOTTED, EntitySpan, Transcript
from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.pronunciation import PHONES, Pronunciation
from nemo_bias.pronunciation.alignment import align_words

BLANK = len(PHONES)
LEXICON = {
    "no": ["N OW"],
    "born": ["B AO R N"],
    "barn": ["B AA R N"],
    "bern": ["B ER N"],
    "a": ["AH", "EY"],
    "toast": ["T OW S T"],
}


def ids(phones: str) -> tuple[int, ...]:
    return tuple(PHONES.index(phone) for phone in phones.split())


def pronounce(words):
    return [tuple(Pronunciation(ids(p), 1 / len(LEXICON[w]), "lexicon") for p in LEXICON.get(w, ())) for w in words]


def spoken(phones: str, sure: float = 0.9) -> np.ndarray:
    """Phone log-probs of an utterance: each phone takes a sub-frame, a blank follows it."""
    labels = [label for phone in ids(phones) for label in (phone, BLANK)]
    probs = np.full((len(labels), BLANK + 1), (1 - sure) / BLANK)
    probs[np.arange(len(labels)), labels] = sure
    return np.log(probs).astype(np.float32)


def transcript(text: str, score: float = 0.0, *entities: str) -> Transcript:
    spans = tuple(EntitySpan(entity, entity, 0, 0, 0.5, SPOTTED, 0.5) for entity in entities)
    return Transcript(text, (), score, spans, np.zeros(0, np.int32))


def rescored(log_probs, hypotheses, weight=1.0, entities=None):
    return PhoneticRescorer(pronounce, weight, threads=1).rescore([hypotheses], [log_probs], entities and [entities])[0]


def scores(transcripts) -> list[tuple[str, float]]:
    return [(each.text, each.score) for each in transcripts]


def test_what_is_heard_comes_first():
    hypotheses = [transcript("no barn a"), transcript("no born a", -0.5), transcript("no toast a", -1.0)]
    first, second, third = rescored(spoken("N OW B AO R N EY"), hypotheses)
    assert [first.text, second.text, third.text] == ["no born a", "no barn a", "no toast a"]
    assert first.score == -0.5  # what fits best keeps its score


def test_the_cost_is_the_mean_loss_of_each_words_phones():
    log_probs = spoken("N OW B AO R N AH")
    nats = float(log_probs.max() - log_probs.min())
    best, worst = rescored(log_probs, [transcript("no born a"), transcript("no barn a")], weight=2.0)
    assert best.score == 0
    assert worst.score == pytest.approx(-2 * nats / 4, rel=1e-5)  # one of the four phones of "barn"


def test_the_weight_decides_and_ties_keep_their_order():
    hypotheses = [transcript("no barn a"), transcript("no born a", -0.5)]
    log_probs = spoken("N OW B AO R N EY")
    assert rescored(log_probs, hypotheses, weight=0.1)[0].text == "no barn a"
    assert rescored(log_probs, hypotheses, weight=0.0) == hypotheses
    same = [transcript("no born"), transcript("no born a"), transcript("no barn")]
    assert [each.text for each in rescored(log_probs, same, weight=0.0)] == ["no born", "no born a", "no barn"]


def test_phones_that_a_hypothesis_leaves_out_cost_it():
    hypotheses = [transcript("no a"), transcript(""), transcript("no born a")]
    assert rescored(spoken("N OW B AO R N AH"), hypotheses)[0].text == "no born a"


def test_an_entity_is_pronounced_as_its_author_says():
    log_probs = spoken("N OW T OW S T AH")
    hypotheses = [transcript("no barn a", 0.0, "barn"), transcript("no toast a", -0.1)]
    assert rescored(log_probs, hypotheses)[0].text == "no toast a"
    own = {"barn": [ids("T OW S T")]}
    assert rescored(log_probs, hypotheses, entities=own)[0].text == "no barn a"
    phrase = {"no barn": [np.array(ids("N OW T OW S T"))]}
    two_words = [transcript("no barn a", 0.0, "no barn"), hypotheses[1]]
    assert rescored(log_probs, two_words, entities=phrase)[0].text == "no barn a"
    assert rescored(log_probs, [transcript("no barn a"), hypotheses[1]], entities=own)[0].text == "no toast a"  # no entity


def test_an_utterance_that_is_too_short_stays_as_it_is():
    hypotheses = [transcript("no"), transcript("toast", -1.0)]
    assert rescored(spoken("N OW"), hypotheses)[0].score == 0
    assert rescored(spoken("N OW")[:2], hypotheses) == hypotheses
    assert rescored(spoken("N OW")[:0], hypotheses) == hypotheses


def test_a_batch_is_rescored_as_each_utterance_alone_in_any_number_of_threads():
    utterances = [spoken("N OW B AO R N EY"), spoken("B AA R N"), spoken("T OW S T AH"), spoken("N OW")]
    nbest = [
        [transcript("no barn a"), transcript("no born a", -0.5)],
        [transcript("born"), transcript("barn", -0.2), transcript("bern", -0.3)],
        [transcript("toast a")],
        [transcript("no a"), transcript("no", -0.1)],
    ]
    alone = [rescored(log_probs, some) for log_probs, some in zip(utterances, nbest, strict=True)]
    for threads in (1, 3):
        together = PhoneticRescorer(pronounce, 1.0, threads).rescore(nbest, utterances)
        assert [[(t.text, t.score) for t in some] for some in together] == [
            [(t.text, t.score) for t in some] for some in alone
        ]


def whole_costs(log_probs, hypotheses):
    """The costs with nothing left out."""
    costs = []
    for words in hypotheses:
        alignment = align_words(log_probs, words, BLANK)
        lengths = [len(word[v]) for word, v in zip(words, alignment.variant, strict=True)]
        costs.append((alignment.loss / lengths).sum())
    return np.array(costs)


@settings(deadline=None)
@given(st.integers(0, 1000), st.lists(st.sampled_from(["born", "barn", "bern", "toast"]), min_size=2, unique=True))
def test_leaving_out_what_hypotheses_share_changes_no_difference(seed, words):
    rng = np.random.default_rng(seed)
    log_probs = spoken("N OW T OW S T N OW B AO R N AH T OW S T N OW", sure=0.99)
    log_probs[14:22] = random_log_probs(rng, 8, BLANK + 1, peak=2)  # where they differ
    texts = [f"no toast no {word} a toast no" for word in words]
    sounds = [[[p.phones for p in each] for each in pronounce(text.split())] for text in texts]
    costs, whole = phonetic_costs(log_probs, sounds), whole_costs(log_probs, sounds)
    assert costs - costs[0] == pytest.approx(whole - whole[0], abs=1e-3)


def test_hypotheses_that_share_all_but_a_word_at_an_end():
    log_probs = spoken("N OW B AO R N AH")
    for texts in (["no born a", "no born"], ["no born a", "born a"], ["no born a", "no no born a"], ["a", "a a a"]):
        sounds = [[[p.phones for p in each] for each in pronounce(text.split())] for text in texts]
        costs, whole = phonetic_costs(log_probs, sounds), whole_costs(log_probs, sounds)
        assert costs[1] - costs[0] == pytest.approx(whole[1] - whole[0], abs=1e-3)


# ---- in the decoder


def decoded(tmp_path, phone_weight, phones, log_odds, nbest=1, risk=None):
    """ "no born a" heard as "no barn a", where born has these log-odds."""
    evidence = weights_file(tmp_path / "evidence.json", risk and {"constant": risk}, constant=log_odds)
    lexicon = tmp_path / "lexicon.txt"
    lexicon.write_text("\n".join(f"{word} {p}" for word, own in LEXICON.items() for p in own))
    vocabulary = Vocabulary(PIECES, len(PIECES))
    options = DecodingOptions(
        evidence_file=evidence, word_frequencies=None, pronunciations=str(lexicon), phone_weight=phone_weight
    )
    search = BiasedBeamSearch(vocabulary, options, threads=1)
    log_probs = speak(vocabulary, ["▁no", "▁b", "o", "r", "n", "▁a"], {2: ("a", 0.7)})
    (transcripts,) = search.decode(
        log_probs[None], lists=search.compile(["born"]), nbest=nbest, phones=None if phones is None else phones[None]
    )
    return transcripts


def phones_of(spoken_phones: str) -> np.ndarray:
    """[12 frames * 2 sub-frames, P + 1]."""
    log_probs = spoken(spoken_phones)
    silence = np.repeat(log_probs[1:2], 24 - len(log_probs), axis=0)
    return np.concatenate([log_probs, silence])


def test_the_decoder_rescores_where_a_phone_head_listens(tmp_path):
    born, barn = phones_of("N OW B AO R N AH"), phones_of("N OW B AA R N AH")
    assert [t.text for t in decoded(tmp_path, 5.0, None, 1.0)] == ["no born a"]
    assert [t.text for t in decoded(tmp_path, 5.0, born, 1.0)] == ["no born a"]
    assert [t.text for t in decoded(tmp_path, 5.0, barn, 1.0)] == ["no barn a"]
    assert [t.text for t in decoded(tmp_path, 0.0, barn, 1.0)] == ["no born a"]
    first, second = decoded(tmp_path, 5.0, barn, 1.0, nbest=2)
    assert (first.text, second.text) == ("no barn a", "no born a") and first.score > second.score
    assert [(s.entity, s.phrase) for s in second.spans] == [("born", "born")]


def test_what_is_less_likely_than_asked_for_is_not_written_however_it_sounds(tmp_path):
    born = phones_of("N OW B AO R N AH")
    assert [t.text for t in decoded(tmp_path, 5.0, born, -1.0)] == ["no barn a"]
    assert [t.text for t in decoded(tmp_path, 5.0, born, -1.0, nbest=2)] == ["no barn a", "no born a"]


@pytest.mark.parametrize(("risk", "text"), [(-20.0, "no born a"), (20.0, "no barn a")])
def test_more_is_asked_for_where_right_words_would_be_lost(risk, text, tmp_path):
    """Of an entity with even odds, however it sounds."""
    best, other = decoded(tmp_path, 5.0, phones_of("N OW B AO R N AH"), 0.0, nbest=2, risk=risk)
    assert best.text == text and {best.text, other.text} == {"no born a", "no barn a"}
