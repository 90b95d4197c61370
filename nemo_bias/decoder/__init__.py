"""Biased CTC decoding on NumPy arrays: no NeMo, no torch."""
