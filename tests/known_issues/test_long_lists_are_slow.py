"""Every further name of the list costs time."""

from __future__ import annotations

import itertools
import time

from conftest import set_anew


def test_a_hundred_hotwords_take_ten_times_as_long(listener):
    """Without hotwords 2 s, with 100 of them 23 s, with 200 of them 45 s.

    https://github.com/kensho-technologies/pyctcdecode/issues/109, https://github.com/k2-fsa/sherpa-onnx/issues/735
    """
    names = ["".join(letters) + "son" for letters in itertools.product("bdfgklmnpt", "aeiou", "bdfgklmnpt", "aeiou")]
    heard = "we talked about the weather and the garden for a long time" + " we talked about the weather" * 20
    log_probs = listener.log_probs(heard)
    seconds = []
    for count in (25, 2500):
        set_anew(listener.model, names[:count], pronunciations=None)
        took = []
        for _ in range(4):
            start = time.perf_counter()
            assert listener.decode(log_probs).text == heard
            took.append(time.perf_counter() - start)
        seconds.append(min(took))
    assert seconds[1] < 3 * seconds[0]
