"""How words are said: phones, lexicons, grapheme-to-phone conversion, and distances. No NeMo, no PyTorch."""

from nemo_bias.pronunciation.phones import PHONES
from nemo_bias.pronunciation.pronouncer import Pronouncer, Pronunciation

__all__ = ["PHONES", "Pronouncer", "Pronunciation"]
