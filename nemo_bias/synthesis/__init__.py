"""Synthetic speech of sentences with names, to train adapters on."""
