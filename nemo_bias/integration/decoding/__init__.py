"""The decoding strategy in NeMo's CTC models: its options, its entities, and what calls it."""
