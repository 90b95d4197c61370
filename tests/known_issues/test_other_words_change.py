"""The list worked, and spoiled something else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import set_anew

SENTENCE = "we talked about the weather and then about something else"


@pytest.mark.parametrize("weight", [1, 25, 1e6])
def test_the_word_after_the_hotword_falls_into_letters(listener, weight):
    """With a boost of 25, "susanne wilson" became "susanne e l oson".

    https://github.com/mozilla/DeepSpeech/issues/3500
    """
    said = "call susanne wilson today"
    assert listener.write({"susanne": weight}, "call sean--- wilson today", said) == said
    assert listener.write({"susanne": weight}, said) == said


@pytest.mark.parametrize("weight", [1, 1e6])
def test_the_beginning_of_a_hotword_is_written_again_and_again(listener, weight):
    """At the default boost a phrase came out as its first letters, ten times over.

    https://github.com/ekhodzitsky/gigastt/issues/260
    """
    text = listener.write({"gigaem": weight}, "about gi game- about gi", "about gi-gaem- about gi")
    assert text == "about gigaem about gi"


@pytest.mark.parametrize("weight", [1, 50])
def test_sentences_get_shorter_and_other_words_are_replaced(listener, weight):
    """Hotwords made sentences shorter, and stood in place of other words.

    https://github.com/modelscope/FunASR/issues/3302
    """
    names = ["weatherby", "Thenabout", "aboutt", "Walked", "someting", "Elsa", "the web", "an denn"]
    assert listener.write(dict.fromkeys(names, weight), SENTENCE) == SENTENCE


def test_only_words_of_the_list_come_out(listener):
    """With a word list, all other words became "unk".

    https://github.com/alphacep/vosk-api/issues/890
    """
    heard, said = (f"{SENTENCE} with {name} here" for name in ("cat-arina", "katharina"))
    assert listener.write(["Katharina"], heard, said) == said


def test_hotwords_are_written_in_silence(demo):
    """On silence the text was the list itself, several times.

    https://github.com/SYSTRAN/faster-whisper/issues/1356
    """
    rng = np.random.default_rng(1)
    noise = [rng.normal(scale=scale, size=32000) for scale in (1e-4, 1e-2, 0.1)]
    pulsing = [each * np.sin(np.arange(32000) / 900) for each in noise]
    silence = [each.astype(np.float32) for each in (np.zeros(32000), *noise, *pulsing)]
    names = ["surgery mode", "clinic mode end", "chair position", "Katharina"]
    written = []
    for entities in (None, names):
        set_anew(demo, entities)
        demo.eval()
        written.append([h.text for h in demo.transcribe(silence, return_hypotheses=True, verbose=False)])
    assert written[0] == written[1]


def test_word_times_move_when_hotwords_are_set(demo, clips):
    """Word-level timestamps were off after hotwords had been set.

    https://github.com/SYSTRAN/faster-whisper/issues/853
    """
    times = []
    for entities in (None, ["Tesla", "Nikola", "Zagreb"]):
        set_anew(demo, entities)
        demo.eval()
        (hypothesis,) = demo.transcribe(clips[:1], timestamps=True, return_hypotheses=True, verbose=False)
        assert not getattr(hypothesis, "entity_spans", ())
        times.append([(word["word"], word["start"], word["end"]) for word in hypothesis.timestamp["word"]])
    assert times[0] == times[1] and len(times[0]) > 1


def test_words_have_no_start(listener):
    """With the tokens of NeMo models a third of the words had -1 as their start.

    https://github.com/kensho-technologies/pyctcdecode/issues/42
    """
    set_anew(listener.model, ["Katharina Sommerfeld"])
    config = listener.model.cfg.decoding.copy()
    config.compute_timestamps, before = True, config
    listener.model.change_decoding_strategy(config, verbose=False)
    heard, said = (f"with {name} today" for name in ("cat-arina zummerfeld", "katharina sommerfeld"))
    words = listener.decode(listener.log_probs(heard, said)).timestamp["word"]
    listener.model.change_decoding_strategy(before, verbose=False)
    assert [word["word"] for word in words] == said.split()
    ends = [0]
    for word in words:
        assert ends[-1] <= word["start_offset"] < word["end_offset"] <= 2 * len(said)
        ends.append(word["end_offset"])


def test_neighbouring_words_are_run_together(listener):
    """Words were concatenated oddly: "clinessegryand".

    https://github.com/kensho-technologies/pyctcdecode/issues/5
    """
    heard, said = "met cat-arina zommerfeld now", "met katharina sommerfeld now"
    assert listener.write(["Katharina", "Sommerfeld"], heard, said) == said


def test_an_apostrophe_is_lost(listener):
    """ "mary's number" came out as "marys number".

    https://github.com/Azure-Samples/Cognitive-Speech-STT-JavaScript/issues/18
    """
    for listed in ("Mary", "Mary's number", "Mary’s number"):
        assert listener.write([listed], "send me merry's number", "send me mar-y's number") == "send me mary's number"


def test_each_utterance_of_a_batch_gets_what_is_its_own(listener):
    """Words of one utterance of a batch turned up in another, longer one, whose padding was decoded, too.

    https://github.com/Slyne/ctc_decoder/pull/11
    """
    set_anew(listener.model, ["Katharina", "Sommerfeld"])
    each = [listener.log_probs(*pair) for pair in (("cat-arina", "katharina"), ("by zommerfeld oh", "by sommerfeld oh"))]
    batch = torch.nn.utils.rnn.pad_sequence(each, batch_first=True, padding_value=-1.0)
    lengths = torch.tensor([len(log_probs) for log_probs in each])
    together = listener.model.decoding.ctc_decoder_predictions_tensor(batch, lengths, return_hypotheses=True)
    assert [h.text for h in together] == [listener.decode(log_probs).text for log_probs in each]
    assert [h.text for h in together] == ["katharina", "by sommerfeld oh"]
