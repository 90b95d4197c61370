"""Variants: further forms of an entity, found in its place and written as it is listed. No NeMo, no PyTorch."""

from nemo_bias.variants import compounds, g2g, g2p, inflections, readings, spellings
from nemo_bias.variants.generation import MOST_VARIANTS, VariantList, generate_variants
from nemo_bias.variants.variant import GENERATORS, Generator, Variant, VariantSettings, register

__all__ = [
    "GENERATORS",
    "MOST_VARIANTS",
    "Generator",
    "Variant",
    "VariantList",
    "VariantSettings",
    "compounds",
    "g2g",
    "g2p",
    "generate_variants",
    "inflections",
    "readings",
    "register",
    "spellings",
]
