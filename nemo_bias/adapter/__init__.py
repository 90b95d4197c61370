"""Encoder biasing: the contextual adapter, the entity lists it is trained with, and its losses."""
