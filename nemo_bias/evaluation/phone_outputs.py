"""What an adapter's phone head gives for a data set."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from nemo_bias.evaluation.comparison import LogProbs
from nemo_bias.evaluation.recogniser import BATCH_SIZE, batches_by_length
from nemo_bias.integration.encoder.biasing_adapter import BiasingAdapter, Offer
from nemo_bias.integration.training.layer_cache import LayerCache


def phone_log_probs(adapter: BiasingAdapter, cache: LayerCache) -> list[LogProbs]:
    """Runs a phone head over encoded utterances.

    Args:
        adapter: with a phone head, in evaluation mode.
        cache: of `encode_manifest` with the same adapter.

    Returns:
        Log-probs [T * sub_frames, phones + 1] of each line of the manifest, in order.

    Raises:
        ValueError: the adapter has no phone head.
    """
    adapter.offer(Offer(phones=True))
    utterances = sorted(cache.utterances, key=lambda utterance: utterance.number)
    found: list[LogProbs] = [np.zeros((0, 0), np.float32)] * len(utterances)
    try:
        with torch.inference_mode():
            for chosen in batches_by_length([utterance.frames for utterance in utterances], BATCH_SIZE):
                read = [cache.read(utterances[k])[:-1] for k in chosen]  # but for the encoder's output
                layers = [pad_sequence(list(each), batch_first=True) for each in zip(*read, strict=True)]
                lengths = torch.tensor([utterances[k].frames for k in chosen])
                phones = adapter(layers, lengths).phones
                assert adapter.phones is not None
                for k, own in zip(chosen, phones, strict=True):
                    found[k] = own[: utterances[k].frames * adapter.phones.sub_frames].cpu().numpy().copy()
    finally:
        adapter.offer(None)
    return found
