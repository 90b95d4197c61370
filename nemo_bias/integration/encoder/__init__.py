"""The biasing adapter in NeMo's Conformer encoders: its config, its file, and the entities that it is offered."""
