"""The only place that touches NeMo: registration, decoding strategy, manifest fields."""
