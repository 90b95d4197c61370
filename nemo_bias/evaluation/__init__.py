"""Scores for contextual biasing, and the manifests they are computed from."""

from nemo_bias.evaluation.manifest import ManifestError, read_manifest, write_manifest
from nemo_bias.evaluation.metrics import BiasingScore, manifest_words, markdown_table, score, score_manifest

__all__ = [
    "BiasingScore",
    "ManifestError",
    "manifest_words",
    "markdown_table",
    "read_manifest",
    "score",
    "score_manifest",
    "write_manifest",
]
