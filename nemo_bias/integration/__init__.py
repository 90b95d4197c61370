"""The only place that touches NeMo: registration, the decoding strategy, the adapter in the encoder, and its training."""
