"""The phones of American English as ARPAbet symbols, and how pronunciations are read and written.

A pronunciation is a tuple of phone ids: places in PHONES. It is read from ARPAbet (``N IH0 V IY1 D IY0 AH0``; stress
digits are dropped) or from the International Phonetic Alphabet (``nɪˈvɪdiə``). An IPA symbol that English does not have
becomes the nearest English phone, see IPA_TO_ARPABET.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from nemo_bias.messages import suggestion

Phones = tuple[int, ...]  # ids

# The phone set of CMUdict, and how each phone is shown in IPA.
ARPABET_TO_IPA = {
    **{"AA": "ɑ", "AE": "æ", "AH": "ʌ", "AO": "ɔ", "AW": "aʊ", "AY": "aɪ", "B": "b", "CH": "tʃ", "D": "d", "DH": "ð"},
    **{"EH": "ɛ", "ER": "ɝ", "EY": "eɪ", "F": "f", "G": "ɡ", "HH": "h", "IH": "ɪ", "IY": "i", "JH": "dʒ", "K": "k"},
    **{"L": "l", "M": "m", "N": "n", "NG": "ŋ", "OW": "oʊ", "OY": "ɔɪ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ"},
    **{"T": "t", "TH": "θ", "UH": "ʊ", "UW": "u", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ"},
}
PHONES: tuple[str, ...] = tuple(sorted(ARPABET_TO_IPA))
PHONE_IDS = {phone: number for number, phone in enumerate(PHONES)}

# What each IPA symbol or run of symbols becomes; the longest one that fits is taken. A mark that is not here is dropped.
IPA_TO_ARPABET = {
    **{ipa: arpabet for arpabet, ipa in ARPABET_TO_IPA.items()},
    # English, in other ways of writing
    **{"g": "G", "r": "R", "ɐ": "AH", "ə": "AH", "ɚ": "ER", "ɜ": "ER", "ər": "ER", "əɹ": "ER", "ɜr": "ER", "ɜɹ": "ER"},
    **{"ɜːr": "ER", "ɜːɹ": "ER", "ʌr": "ER", "ʌɹ": "ER", "ɒ": "AA", "a": "AA", "e": "EH", "eː": "EY", "o": "OW"},
    **{"əʊ": "OW", "əu": "OW", "ou": "OW", "ei": "EY", "ɛɪ": "EY", "ai": "AY", "ɑɪ": "AY", "ɔi": "OY", "oɪ": "OY"},
    **{"oi": "OY", "au": "AW", "ɑʊ": "AW", "æʊ": "AW", "ʧ": "CH", "ʤ": "JH", "ʦ": "T S", "ʣ": "D Z", "ɫ": "L"},
    **{"ɾ": "D", "ʍ": "W", "ɪə": "IH R", "ɪər": "IH R", "ɪəɹ": "IH R", "eə": "EH R", "eər": "EH R", "eəɹ": "EH R"},
    **{"ɛə": "EH R", "ɛər": "EH R", "ɛəɹ": "EH R", "ʊə": "UH R", "ʊər": "UH R", "ʊəɹ": "UH R", "ᵻ": "IH", "ɨ": "IH"},
    **{"ə˞": "ER", "ɜ˞": "ER", "˞": "R", "ε": "EH", "ᵊ": "AH"},
    **{"n̩": "AH N", "l̩": "AH L", "ɫ̩": "AH L", "m̩": "AH M", "ŋ̍": "AH NG", "r̩": "ER", "ɹ̩": "ER"},
    # vowels of other languages
    **{"y": "UW", "ʏ": "UH", "ø": "ER", "œ": "ER", "ɶ": "AE", "ɤ": "UH", "ɯ": "UW", "ʉ": "UW", "ɘ": "IH", "ɵ": "UH"},
    **{"ɞ": "ER", "ɔy": "OY", "ɔʏ": "OY", "ɔø": "OY", "œy": "OY", "œʏ": "OY", "̃": "N", "ɛ̃": "AE N", "œ̃": "AH N"},
    # consonants of other languages
    **{"x": "K", "χ": "K", "ɣ": "G", "ç": "SH", "ʝ": "Y", "ɕ": "SH", "ʑ": "ZH", "ʂ": "SH", "ʐ": "ZH", "ɧ": "SH"},
    **{"β": "V", "ɸ": "F", "ʋ": "V", "ɱ": "M", "ɲ": "N Y", "ɳ": "N", "ɴ": "NG", "ʎ": "L Y", "ʟ": "L", "ɭ": "L"},
    **{"ɬ": "L", "ɮ": "L", "ʀ": "R", "ʁ": "R", "ɽ": "R", "ɻ": "R", "ɺ": "R", "ɰ": "W", "ɥ": "W", "c": "K", "ɟ": "G"},
    **{"q": "K", "ɢ": "G", "ʈ": "T", "ɖ": "D", "ħ": "HH", "ɦ": "HH", "ʜ": "HH", "ʔ": "", "ʕ": "", "ɓ": "B", "ɗ": "D"},
    **{"ʄ": "JH", "ɠ": "G", "ʛ": "G", "tɕ": "CH", "dʑ": "JH", "ʈʂ": "CH", "ɖʐ": "JH", "ɾ̃": "N"},
}
_IPA = {
    unicodedata.normalize("NFD", ipa): tuple(PHONE_IDS[phone] for phone in arpabet.split())
    for ipa, arpabet in IPA_TO_ARPABET.items()
}
_LONGEST_IPA = max(map(len, _IPA))
_COMBINING = frozenset(character for ipa in _IPA for character in ipa if unicodedata.combining(character))
_IPA_MARKS = frozenset("ˈˌ'’ʼːˑ:.‿|‖-–/[]()ʰʱʲʷˠˤˀⁿˡ˔˕↗↘˥˦˧˨˩")
_CAPITAL = re.compile("[A-Z]")  # IPA has none


def read_phones(text: str) -> Phones:
    """Read a pronunciation in ARPAbet or IPA; which of them is told by its symbols.

    ARPAbet is told by a capital, or by several symbols of which at least half are ARPAbet.

    Args:
        text: the pronunciation, such as ``S M IH1 TH`` or ``smɪθ``.

    Returns:
        Ids, at least one.

    Raises:
        ValueError: if it has a symbol of neither; the message is ``reason; fix``.
    """
    symbols = text.split()
    known = [_arpabet_id(symbol) is not None for symbol in symbols]
    several = len(symbols) > 1 and text.isascii()
    if _CAPITAL.search(text) or (several and 2 * sum(known) >= len(known)):
        return read_arpabet(symbols)
    return _read_ipa(text)


def read_arpabet(symbols: Iterable[str]) -> Phones:
    """Read ARPAbet symbols, in either case, with or without stress.

    Raises:
        ValueError: if a symbol is not one of them; the message is ``reason; fix``.
    """
    phones = []
    for symbol in symbols:
        phone = _arpabet_id(symbol)
        if phone is None:
            meant = suggestion(symbol.rstrip("012"), PHONES, least=0.5)
            raise ValueError(f'"{symbol}" is not an ARPAbet phone{meant}; use {" ".join(PHONES)}')
        phones.append(phone)
    return tuple(phones)


def arpabet(phones: Iterable[int]) -> str:
    """The phones as ARPAbet symbols, separated by spaces."""
    return " ".join(PHONES[phone] for phone in phones)


def ipa(phones: Iterable[int]) -> str:
    """The phones in IPA, without stress; `read_phones` gives them back, as a dot parts two that would be read as one."""
    text = ""
    last: Phones = ()
    for phone in phones:
        symbol = ARPABET_TO_IPA[PHONES[phone]]
        if last and _read_ipa(ipa(last) + symbol) != (*last, phone):
            text += "."
        text += symbol
        last = (phone,)
    return text


def _arpabet_id(symbol: str) -> int | None:
    symbol = symbol.upper()
    return PHONE_IDS.get(symbol[:-1] if symbol[-1:] in ("0", "1", "2") else symbol)


def _read_ipa(text: str) -> Phones:
    decomposed = unicodedata.normalize("NFD", text)
    rest = "".join(c for c in decomposed if c in _COMBINING or not unicodedata.combining(c))  # tie bars go, too
    phones: list[int] = []
    place = 0
    while place < len(rest):
        for length in range(_LONGEST_IPA, 0, -1):
            found = _IPA.get(rest[place : place + length])
            if found is not None:
                phones += found
                place += length
                break
        else:
            character = rest[place]
            if character not in _IPA_MARKS and not character.isspace() and character not in _COMBINING:
                raise ValueError(f'"{character}" is neither an ARPAbet phone nor an IPA symbol; write ARPAbet or IPA')
            place += 1
    if not phones:
        raise ValueError("it has no phones; write ARPAbet or IPA")
    return tuple(phones)
