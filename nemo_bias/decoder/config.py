"""Options of decoding, declared once: the decoder and the config node `biased_beam` share them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

from nemo_bias.languages import AUTO, ENGLISH, language
from nemo_bias.messages import suggestion
from nemo_bias.options import option

METHODS = ("arcs", "adaptive", "greedy")


# OmegaConf reads the annotations, and knows Optional[X] better than X | None.
@dataclass
class DecodingOptions:
    """How to decode with a list; `check` refuses values that make no sense."""

    method: str = option(
        "arcs",
        "arcs: greedy decoding, with the entities that are likely enough; adaptive: beam search that boosts their "
        "subwords; greedy: greedy decoding, so that only the adapter uses the list",
    )
    min_probability: float = option(
        0.5,
        "how likely an entity must be to be written, more so where right words would be lost: lower it if names are missed, "
        "raise it if they are invented",
    )
    weight: float = option(1.0, "trust in the list: multiplies the odds of its entities (method adaptive: `boost`)")
    language: str = option(
        ENGLISH,
        "of the list, by its code, such as de: for number words, capital letters, and what follows it below; readings, "
        "inflections and built-in pronunciations are English, and left out for others",
    )
    word_frequencies: Optional[str] = option(  # noqa: UP045
        AUTO,
        "how common the words are that a name would replace, or sounds like, and whether they belong together with their "
        "neighbours; auto: as wordfreq knows of the language, and symspellpy of English; or a file of ordinary text, a "
        "sentence a line, or the code of another language; null: that does not matter",
    )
    pronunciations: Optional[str] = option(  # noqa: UP045
        AUTO,
        "how names and words are said; en: as the built-in English model reads them; cmudict, or a file in CMUdict's "
        "format: as that lexicon says, and the model for other words; null: that does not matter; auto: en in English, "
        "else null",
    )
    evidence_file: Optional[str] = option(  # noqa: UP045
        None, "weights of the evidence, made by scripts/fit_evidence.py; null: those of the package"
    )
    lookup_distance: Optional[float] = option(  # noqa: UP045
        0.35,
        "how unlike words of which the recogniser is not sure an entity may sound to be proposed in their place; 0: only "
        "one that sounds the same; null: none",
    )
    variants: list[str] = option(
        ["spellings", "readings", "inflections", "g2g"],
        "further forms in which entities are found. spellings: those that the list gives; readings: of numbers and "
        "abbreviations; inflections: possessive and plural, written as such; compounds: night shade for nightshade; g2g: "
        "spellings that are read alike; g2p: spellings of how an entity is said; []: none",
    )
    g2g_file: Optional[str] = option(  # noqa: UP045
        None, "for g2g: rules that scripts/learn_g2g.py has learned, or a table of graphemes; null: the package's table"
    )
    lm_file: Optional[str] = option(  # noqa: UP045
        None,
        "word language model, ARPA or KenLM binary: what is written without entities is then found by beam search with it; "
        "null: greedy decoding",
    )
    lm_weight: float = option(
        0.7, "of the language model where the recogniser doubts every token; an utterance's is that, times its doubt"
    )
    word_bonus: float = option(0.9, "what each word adds beside the language model, in nats; likewise times the doubt")
    oov_boost: float = option(
        -10.0,
        "how likely a word is that the language model does not know and that is not in the list, in nats above the mean "
        "word of the language model",
    )
    entity_boost: float = option(
        0.0, "the same for the words of the list, if the language model does not know them or takes them for less likely"
    )
    class_boosts: dict[str, float] = option({}, "the same for entities of a class, which the list's column `class` names")
    phone_weight: float = option(
        0.1,
        "phonetic rescoring, for an adapter with a phone head: how much a hypothesis's score falls for each nat that its "
        "words lose, by the mean of their phones; 0: none",
    )
    token_margin: float = option(10.0, "subwords further below a frame's best than this many nats are not tried")
    most_tokens: int = option(48, "nor are subwords that are not among this many best of a frame")
    beam_size: int = option(8, "hypotheses kept after each frame (with lm_file, or method adaptive)")
    boost: float = option(2.0, "the most that one subword of an entity is raised, in nats (method adaptive)")

    @property
    def frequency_source(self) -> str | None:
        """Where to look up how common words are; None: nowhere."""
        if self.word_frequencies != AUTO:
            return self.word_frequencies
        return self.language if language(self.language).has_frequencies else None

    @property
    def pronunciation_source(self) -> str | None:
        """Where to look up how words are said; None: nowhere."""
        if self.pronunciations != AUTO:
            return self.pronunciations
        return ENGLISH if self.language == ENGLISH else None

    @property
    def unknown_to_language(self) -> list[str]:
        """What would be used, but is not known of the language."""
        if self.method != "arcs":
            return []
        from nemo_bias.decoder.word_pairs import knows_pairs
        from nemo_bias.variants import GENERATORS, VariantSettings  # with the packages that they use

        settings = VariantSettings(frozenset(), self.language, g2g_file=self.g2g_file)
        unknown = [name for name in self.variants if name in GENERATORS and not GENERATORS[name].knows(settings)]
        unknown += ["pronunciations"] * (self.pronunciations == AUTO and self.pronunciation_source is None)
        source = self.frequency_source
        unknown += ["word frequencies"] * (self.word_frequencies == AUTO and source is None)
        return unknown + ["pairs of words"] * (self.word_frequencies is not None and not knows_pairs(source))

    def check(self) -> None:
        """Refuses wrong values.

        Raises:
            ValueError: the message names the option and what it may be.
        """
        language(self.language)
        if self.method not in METHODS:
            raise ValueError(
                f"method is {self.method!r}{suggestion(self.method, METHODS)}; choose one of {', '.join(METHODS)}"
            )
        if not 0 < self.min_probability < 1:
            raise ValueError(f"min_probability is {self.min_probability}; it must lie between 0 and 1")
        for name in ("beam_size", "most_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("token_margin", "lookup_distance"):  # infinite: no limit
            if getattr(self, name) is not None and not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more")
        for name in ("boost", "weight", "phone_weight", "lm_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a finite number of 0 or more")
        for name in ("word_bonus", "oov_boost", "entity_boost"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; give a finite number")
        wrong = [name for name, boost in self.class_boosts.items() if not math.isfinite(boost)]
        if wrong:
            raise ValueError(f"class_boosts of {wrong[0]!r} is {self.class_boosts[wrong[0]]}; give a finite number")
        if self.class_boosts and self.lm_file is None:
            raise ValueError("class_boosts has no effect without lm_file; give one, or leave class_boosts out")
