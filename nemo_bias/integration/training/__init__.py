"""Training a biasing adapter, in NeMo's own scripts or from cached encoder layers."""
