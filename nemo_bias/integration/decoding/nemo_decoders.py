"""NeMo's own CTC decoders, made from a tokenizer alone, for comparison with ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from omegaconf import OmegaConf

from nemo_bias.decoder.vocabulary import Vocabulary
from nemo_bias.integration.decoding.strategy import vocabulary_of


def nemo_decoding(tokenizer: Any, strategy: str, phrases: Sequence[str] = (), alpha: float = 0.0, beam_size: int = 8) -> Any:
    """A NeMo `CTCBPEDecoding` with a boosting tree, or without one if there are no phrases.

    `beam_beta`, a bonus for each token, is 0 instead of NeMo's 1: that inserts words.

    Args:
        tokenizer: a NeMo tokenizer.
        strategy: ``greedy_batch`` or ``beam_batch``.
        phrases: the tree's phrases.
        alpha: its weight, `boosting_tree_alpha`.
        beam_size: of ``beam_batch``.
    """
    from nemo.collections.asr.parts.submodules.ctc_decoding import CTCBPEDecoding, CTCBPEDecodingConfig

    config = OmegaConf.structured(CTCBPEDecodingConfig)
    config.strategy = strategy
    config.beam.beam_size = beam_size
    config.beam.beam_beta = 0.0
    config.beam.return_best_hypothesis = True
    options = config.greedy if strategy == "greedy_batch" else config.beam
    options.boosting_tree_alpha = alpha
    options.boosting_tree.key_phrases_list = list(phrases) or None
    return CTCBPEDecoding(config, tokenizer)


def nemo_vocabulary(tokenizer: Any) -> Vocabulary:
    """The tokens of a NeMo subword tokenizer, as our decoder sees them."""
    return vocabulary_of(nemo_decoding(tokenizer, "greedy_batch"))


def nemo_word_spotter(tokenizer: Any, phrases: Sequence[str], blank: int) -> Callable[..., str | None]:
    """NeMo's CTC-WS with a graph of phrases.

    The graph loses a phrase that is added after a longer one that starts with the same tokens; so the list is added from
    short to long.

    Args:
        tokenizer: a NeMo tokenizer.
        phrases: what to look for.
        blank: id of the blank.

    Returns:
        A function of log-probs [T, V] and the weights of NeMo's `run_word_spotter`: the greedy text with the phrases that
        were found, or None if there are none.
    """
    from nemo.collections.asr.parts.context_biasing.context_biasing_utils import merge_alignment_with_ws_hyps
    from nemo.collections.asr.parts.context_biasing.context_graph_ctc import ContextGraphCTC
    from nemo.collections.asr.parts.context_biasing.ctc_based_word_spotter import run_word_spotter

    graph = ContextGraphCTC(blank_id=blank)
    tokenized = [(phrase, [tokenizer.text_to_ids(phrase)]) for phrase in phrases]
    graph.add_to_graph(sorted(tokenized, key=lambda item: len(item[1][0])))
    model = SimpleNamespace(tokenizer=tokenizer)  # all that it uses of a model

    def spotted_text(log_probs: Any, **weights: float) -> str | None:
        spotted = run_word_spotter(log_probs, graph, model, blank_idx=blank, beam_threshold=5.0, **weights)
        if not spotted:
            return None
        text: str = merge_alignment_with_ws_hyps(log_probs.argmax(axis=1), model, spotted, blank_idx=blank)[0]
        return text

    return spotted_text
