"""Brings entities into the characters that a checkpoint's tokens can write.

Each step is taken only where the alphabet demands it: a model that writes capitals, accents and digits gets the entity as
it stands, and one that writes ``a-z'`` gets "Jürgen Müller-Weiß & Co. 2024" as "jurgen muller weiss and co twenty twenty
four". Words that stand for digits and signs, and the pairs of capital and small letters, are those of a `Language`.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from functools import cached_property

from nemo_bias.entities import Entity, EntityList, merge_note, merged
from nemo_bias.languages import ENGLISH, Language, language

_APOSTROPHES = "'’‘ʼ‛`´′"
_TYPOGRAPHIC = dict.fromkeys(_APOSTROPHES[1:], "'") | dict.fromkeys("“”„‟«»″", '"') | dict.fromkeys("‐‑‒–—―−", "-")
_LETTERS = {  # letters that Unicode does not decompose into a base and an accent
    **{"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"},
    **{"đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ħ": "h", "Ħ": "H", "ı": "i", "ə": "e"},
    **{"ŧ": "t", "Ŧ": "T", "ŋ": "ng", "Ŋ": "Ng"},
}
_SEPARATORS = "-/_\\|.,:;▁…·•()[]{}"  # these keep words apart; all other punctuation vanishes, as in o'brien and yahoo!
_VARIANTS = "\ufe0e\ufe0f"  # invisible: they ask for a plain or a coloured form of the sign before them

_LETTER = r"[^\W\d_]"
_ACRONYM = re.compile(
    rf"(?<![^\W_])(?:{_LETTER}\.){{2,}}{_LETTER}?(?![^\W_])|(?<![^\W_]){_LETTER}(?:\.{_LETTER})+(?![^\W_])"
)
_NUMBER = re.compile(r"([0-9]+)(st|nd|rd|th)(?![^\W_])|[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+(?:\.[0-9]+)*", re.IGNORECASE)


@dataclass(frozen=True)
class NormalizedEntity:
    """An entity as a model can write it.

    Attributes:
        entity: the entity; of several that are written alike, the first, with what `merged` takes from the others.
        phrase: its text in the model's characters, "" if that cannot be written.
        note: a sentence on what was changed other than the case, or on why it cannot be written; "" if there is nothing.
    """

    entity: Entity
    phrase: str
    note: str = ""

    @property
    def unsplittable(self) -> str:
        """A sentence for a model whose tokens cannot write the phrase."""
        advice = "; leave the space out, or give it such a spelling" if " " in self.phrase else ""
        return f'{self.entity.place}: "{self.phrase}" cannot be split into tokens of this model{advice}'


@dataclass(frozen=True)
class NormalizedList:
    """The entities of a list as a model can write them.

    Attributes:
        items: an entity for each distinct phrase, in the order of the list.
        unwritable: a sentence for each entity that the model cannot write.
        notes: all other sentences: those of the list, what was changed, and what was merged.
    """

    items: tuple[NormalizedEntity, ...]
    unwritable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """The distinct phrases."""
        return tuple(item.phrase for item in self.items)

    @cached_property
    def weights(self) -> tuple[float, ...]:
        """The weight of each phrase."""
        return tuple(item.entity.weight for item in self.items)

    @cached_property
    def entities(self) -> tuple[Entity, ...]:
        """The entity of each phrase."""
        return tuple(item.entity for item in self.items)


def normalize_entities(entities: EntityList, alphabet: frozenset[str], code: str = ENGLISH) -> NormalizedList:
    """Write all entities of a list in a model's characters.

    Args:
        entities: the list. Only the texts are normalised; spellings and pronunciations stay as they are. A spelling stands
            in for a text that cannot be written.
        alphabet: the characters that the model's tokens can write; the space always counts as one.
        code: of the language.

    Returns:
        The distinct phrases with their entities, and sentences that say what was done.

    Raises:
        ValueError: that is no code of a language.
    """
    normalizer = _Normalizer(alphabet, language(code))
    distinct: dict[str, NormalizedEntity] = {}
    unwritable, notes = [], list(entities.notes)
    case_changes = 0
    for entity in entities:
        item = normalizer.normalize_or_spelling(entity)
        if not item.phrase:
            unwritable.append(item.note)
            continue
        if item.note:
            notes.append(item.note)
        elif normalizer.case and item.phrase != entity.text:
            case_changes += 1
        first = distinct.setdefault(item.phrase, item)
        if first is not item:
            distinct[item.phrase] = replace(first, entity=merged(first.entity, entity))
            notes.append(merge_note(first.entity, entity, f', as both are written "{item.phrase}"'))
    if case_changes:
        count = f"{case_changes} of {len(entities)} entities"
        notes.append(f"{count} are matched in {normalizer.case} case, the only one that this model writes")
    return NormalizedList(tuple(distinct.values()), tuple(unwritable), tuple(notes))


class _Normalizer:
    """The steps for one alphabet.

    Args:
        alphabet: the characters that the model's tokens can write.
        language: of the list.
    """

    def __init__(self, alphabet: frozenset[str], language: Language) -> None:
        self.language = language
        self.allowed = alphabet | {" "}
        has_upper, has_lower = any(c.isupper() for c in alphabet), any(c.islower() for c in alphabet)
        self.case = "lower" if has_lower and not has_upper else "upper" if has_upper and not has_lower else ""

    def normalize_or_spelling(self, entity: Entity) -> NormalizedEntity:
        """The entity's text, or in its place the first spelling that can be written."""
        item = self.normalize(entity)
        if item.phrase:
            return item
        spelled = (self.normalize(replace(entity, text=spelling)).phrase for spelling in entity.spellings)
        phrase = next((phrase for phrase in spelled if phrase), "")
        note = f'{entity.place}: "{entity.text}", which this model cannot write, is matched as its spelling "{phrase}"'
        return NormalizedEntity(entity, phrase, note) if phrase else item

    def normalize(self, entity: Entity) -> NormalizedEntity:
        cased = self._case(" ".join(entity.text.split()))
        if cased and self.allowed.issuperset(cased):
            return NormalizedEntity(entity, cased)
        phrase, changes = self._rewrite(unicodedata.normalize("NFC", cased))
        missing = set(phrase) - self.allowed
        if missing:
            shown = " ".join(self._characters_behind(missing, entity.text))
            unread = any(c.isdecimal() for c in missing) and not self.language.has_numbers
            why = f", and there are no number words for the language {self.language.code!r}" if unread else ""
            reason = f"cannot be written by this model (characters {shown}{why}); add a spelling in its alphabet"
        elif not phrase:
            reason = "cannot be written by this model, as it has no letters or digits; add a spelling in its alphabet"
        else:
            changes = ["case"] * (cased != entity.text) + changes
            note = f'{entity.place}: "{entity.text}" is matched as "{phrase}" ({", ".join(changes)})' if changes else ""
            return NormalizedEntity(entity, phrase, "" if changes == ["case"] else note)
        return NormalizedEntity(entity, "", f'{entity.place}: "{entity.text}" {reason}')

    def _characters_behind(self, missing: set[str], text: str) -> list[str]:
        """The characters of a text that became the missing ones, or the missing ones if that cannot be told."""
        behind = [c for c in text if missing & set(unicodedata.normalize("NFC", self._case(c)))]
        return list(dict.fromkeys(behind)) or sorted(missing)

    def _rewrite(self, text: str) -> tuple[str, list[str]]:
        """The text after all steps, and the names of those that changed it."""
        changes = []
        steps = {
            "quotes and dashes": self._typography,
            "character forms": self._character_forms,
            "accents": self._accents,
            "acronym": self._acronyms,
            "numbers": self._numbers,
            "signs": self._signs,
            "punctuation": self._punctuation,
        }
        for name, step in steps.items():
            changed = step(text)
            if changed != text:
                changes.append(name)
            text = changed
        return " ".join(text.split()), changes

    def _case(self, text: str) -> str:
        if not self.case:
            return text
        return self.language.lower(text) if self.case == "lower" else self.language.upper(text)

    def _can_write(self, text: str) -> bool:
        return self.allowed.issuperset(text)

    def _typography(self, text: str) -> str:
        return "".join(c if c in self.allowed else _TYPOGRAPHIC.get(c, c) for c in text)

    def _character_forms(self, text: str) -> str:
        """Ligatures, full-width letters, Roman numerals and the like as plain letters and digits."""
        return "".join(c if c.isascii() or c in self.allowed else self._case(_plain_form(c)) for c in text)

    def _accents(self, text: str) -> str:
        """Letters without accents: é is e, and ß is ss."""
        return "".join(c if c.isascii() or c in self.allowed else self._without_accent(c) for c in text)

    def _without_accent(self, character: str) -> str:
        decomposed = unicodedata.normalize("NFD", character)
        bases = self._case("".join(_LETTERS.get(c, c) for c in decomposed if not unicodedata.combining(c)))
        return bases if self._can_write(bases) else character

    def _acronyms(self, text: str) -> str:
        """The letters of U.S.A. apart."""
        if "." in self.allowed:
            return text
        return _ACRONYM.sub(lambda match: match[0].replace(".", " "), text)

    def _numbers(self, text: str) -> str:
        return _NUMBER.sub(self._spoken_number, text)

    def _spoken_number(self, match: re.Match[str]) -> str:
        if self._can_write(re.sub("[^0-9]", "", match[0])):
            return match[0]
        if not self.language.has_numbers:
            return match[0]
        english_rank = match[1] and self.language.is_english
        words = self.language.ordinal_words(match[1]) if english_rank else self._number_words(match)
        words = self._case(words)
        return f" {words} " if self._can_write(words) else match[0]

    def _number_words(self, match: re.Match[str]) -> str:
        digits = (match[1] or match[0]).replace(",", "")
        return f"{self.language.number_words(digits)} {match[2] or ''}"

    def _signs(self, text: str) -> str:
        for sign, word in self.language.signs.items():
            cased = self._case(word)
            if sign in text and sign not in self.allowed and self._can_write(cased):
                text = text.replace(sign, f" {cased} ")
        return text

    def _punctuation(self, text: str) -> str:
        return "".join(c if c in self.allowed else _without_mark(c) for c in text)


def _plain_form(character: str) -> str:
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    plain = unicodedata.normalize("NFKC", character)
    is_symbol = unicodedata.category(character)[0] == "S"  # ™ shall not become TM
    return plain if plain.isalnum() and not is_symbol else character


def _without_mark(character: str) -> str:
    """A space for a separator, nothing for other punctuation, and the character itself if it is none."""
    if character in _SEPARATORS or character.isspace():
        return " "
    category = unicodedata.category(character)
    is_mark = category[0] in "PS" or category == "Cf" or character in _APOSTROPHES or character in _VARIANTS
    return "" if is_mark else character
