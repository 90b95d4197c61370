"""A list was given, and nothing happened."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import set_anew

from nemo_bias import EntityListError, set_entities


def test_a_hotword_with_any_weight_changes_nothing_or_only_half_a_word(listener):
    """Weights up to 9999999 wrote nothing; then "discust" became "discus", which is neither what was heard nor the hotword.

    https://github.com/kensho-technologies/pyctcdecode/issues/18
    """
    heard, said = "this will be discust", "this will be discusd"
    assert listener.write(["discusd"], heard, said) == said
    for weight in (0, 1e-6, 1e-3, 0.1, 1, 1e6):
        assert listener.write({"discusd": weight}, heard, said, sure=0.9) in (heard, said)


def test_no_error_and_the_list_is_not_used(listener, nemo_log):
    """PAN RIGHT is in hotwords.txt, there are no errors, and the text is still "pan wright".

    https://github.com/k2-fsa/sherpa-onnx/issues/2307
    """
    heard, said = "pan wright", "pan -right"
    assert listener.write(["PAN RIGHT :10.0"], heard, said) == heard  # a line of their format, given as a phrase
    assert any("PAN RIGHT :10.0" in message for message in nemo_log)
    assert listener.write(["PAN RIGHT"], heard, said) == "pan right"


def test_a_decoding_config_is_set_and_the_text_is_the_same(listener):
    """A `CTCDecodingConfig` was applied, and the output stayed that of greedy decoding.

    https://github.com/NVIDIA-NeMo/Speech/issues/13155
    """
    from nemo.collections.asr.parts.submodules.ctc_decoding import CTCDecodingConfig

    heard, said = "cat-arina", "katharina"
    assert listener.write(["Katharina"], heard, said) == said
    listener.model.change_decoding_strategy(CTCDecodingConfig(strategy="biased_beam"), verbose=False)
    assert listener.decode(listener.log_probs(heard, said)).text == said


@pytest.mark.parametrize("listed", ["Katharina", "KATHARINA", "katharina"])
def test_capital_letters_drop_a_phrase(listener, capitals, listed):
    """Phrases with capital letters were dropped without a word; in other tools, those with small letters.

    https://github.com/ekhodzitsky/gigastt/issues/260, https://github.com/k2-fsa/sherpa-ncnn/issues/430
    """
    assert listener.write([listed], "i met cat-arina", "i met katharina") == "i met katharina"
    assert capitals.write([listed], "I MET CAT-ARINA", "I MET KATHARINA") == "I MET KATHARINA"


def test_one_word_that_the_tokens_cannot_write_stops_the_rest(listener, nemo_log):
    """ "Cannot find ID for token": the list failed, or the whole program, because of one entry.

    https://github.com/k2-fsa/sherpa-onnx/issues/2991, https://github.com/modelscope/FunASR/issues/906
    """
    assert listener.write(["旗山校区", "N", "仏", "Katharina"], "cat-arina", "katharina") == "katharina"
    told = "\n".join(nemo_log)
    assert 'entities:1: "旗山校区" cannot be written' in told and 'entities:3: "仏" cannot be written' in told


def test_a_word_is_cut_into_other_tokens_than_the_tokenizer_does(demo):
    """Only one way to cut a hotword into tokens was looked for, and the recogniser writes another.

    https://github.com/k2-fsa/sherpa-onnx/issues/786
    """
    set_anew(demo, ["percent"])
    texts = [demo.tokenizer.ids_to_text([k]) for k in range(demo.tokenizer.vocab_size)]
    pieces = demo.tokenizer.ids_to_tokens(list(range(len(texts))))
    usual = demo.tokenizer.text_to_ids("percent")
    letters = [pieces.index(piece) for piece in ("▁", *"percent")]
    assert usual != letters
    for tokens in (usual, letters):
        rows = torch.full((2 * len(tokens), len(pieces) + 1), 1e-5)
        rows[1::2, -1] = 1
        for place, token in enumerate(tokens):
            rows[2 * place, token] = 1.0
        last = rows[2 * len(tokens) - 2]
        last[last.argmax()], last[pieces.index("d")] = 0.4, 0.6  # it hears "percend"
        log_probs = (rows / rows.sum(-1, keepdim=True)).log()
        (hypothesis,) = demo.decoding.ctc_decoder_predictions_tensor(
            log_probs[None], torch.tensor([len(rows)]), return_hypotheses=True
        )
        assert hypothesis.text == "percent"


def test_a_phrase_of_several_words_is_not_taken(listener):
    """Strings with a space were not taken into account, and boosting their words one by one gave nothing useful.

    https://github.com/coqui-ai/STT/issues/2138, https://github.com/mozilla/DeepSpeech/pull/3524
    """
    heard, said = "don't sneer the colors or sneer", "don't smear the colors or sneer"
    assert listener.write(["don't smear the colors"], heard, said) == said


def test_whole_sentences_in_the_list(nemo_log, listener):
    """Sentences that hold the words, one a line, gave the same word error rate as no list.

    https://github.com/wenet-e2e/wenet/issues/1721
    """
    set_anew(listener.model, ["Yesterday we talked to Katharina Sommerfeld about it.", "Katharina"])
    assert any("is a whole sentence" in message for message in nemo_log)


@pytest.mark.parametrize(
    ("listed", "heard", "said"),
    [
        ("n8n", "open en-eight en now", "open n- eight n- now"),
        ("Phi-4-mini", "run fi- four miny now", "run phi four mini now"),
        ("don't-panic", "so don't panig", "so don't panic"),
    ],
)
def test_digits_and_hyphens_are_refused(listener, listed, heard, said):
    """Words such as n8n could not be added: letters only. Others were kept and never found, since they are said otherwise.

    https://github.com/Kieirra/murmure/issues/188, https://github.com/ChrisMcKee1/scribe/issues/48
    """
    set_anew(listener.model, [listed])
    hypothesis = listener.decode(listener.log_probs(heard, said))
    assert [span.entity for span in hypothesis.entity_spans] == [listed], hypothesis.text


def test_an_empty_line_ends_in_a_division_by_zero(listener, tmp_path):
    """An empty phrase in a list of key phrases raised ZeroDivisionError in the middle of building the model.

    https://github.com/NVIDIA-NeMo/Speech/pull/16288
    """
    names = tmp_path / "names.txt"
    names.write_text("katharina\n\n   \n")
    assert listener.write(names, "cat-arina", "katharina") == "katharina"
    with pytest.raises(EntityListError, match="entities:2: text is empty"):
        set_entities(listener.model, ["katharina", ""])
    assert listener.decode(listener.log_probs("cat-arina", "katharina")).text == "katharina"  # the list before still works


def test_weights_in_a_dict_are_of_the_wrong_type(listener):
    """`hot_words = {"monday": 1.5}` raised "Wrong number or type of arguments".

    https://github.com/mozilla/DeepSpeech/issues/3501
    """
    for weight in (1.5, np.float32(1.5)):
        assert listener.write({"monday": weight}, "on munday", "on monday") == "on monday"
    assert listener.write({"monday": 1e-6}, "on munday", "on monday") == "on munday"
    assert listener.write({"monday": -5.0}, "on monday", "on munday") == "on munday"


def test_the_list_works_in_the_first_seconds_only(listener):
    """A prompt counts in the first window of thirty seconds, and what comes later is written as without it.

    https://github.com/openai/whisper/pull/2070, https://github.com/SYSTRAN/faster-whisper/issues/1076
    """
    ordinary = "we talked about the weather and the garden for a long time " * 12
    heard, said = (f"{ordinary}{name} {ordinary}{name}" for name in ("cat-arina", "katharina"))
    assert listener.write(["Katharina"], heard, said) == said
