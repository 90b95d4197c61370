"""How NeMo, Hydra and Lightning come to know this package."""
