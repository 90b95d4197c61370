"""What users saw who evaluated, or gave something wrong."""

from __future__ import annotations

import pytest

from nemo_bias.decoder.config import DecodingOptions
from nemo_bias.evaluation import ManifestError, read_manifest, score_manifest, write_manifest
from nemo_bias.evaluation.audio import AudioError, check_audio


@pytest.mark.parametrize(("entity", "text"), [("Edmond, Oklahoma", "edmond oklahoma"), ("T. S. Eliot", "t s eliot")])
def test_the_decoder_found_it_and_evaluate_did_not_count_it(entity, text, tmp_path):
    write_manifest(tmp_path / "p.jsonl", [{"duration": 1.0, "text": text, "pred_text": text}])
    assert score_manifest(tmp_path / "p.jsonl", [entity]).recall == 100


def test_gready_was_refused_without_offering_greedy():
    with pytest.raises(ValueError, match='did you mean "greedy"'):
        DecodingOptions(method="gready").check()


def test_a_missing_manifest_was_errno_2(tmp_path):
    with pytest.raises(
        ManifestError, match=r"no\.jsonl: the manifest cannot be read \(No such file or directory\); give a file"
    ):
        read_manifest(tmp_path / "no.jsonl")


def test_a_negative_weight_spoke_of_boost():
    with pytest.raises(ValueError, match=r"^weight is"):
        DecodingOptions(weight=-1.0).check()


def test_a_nemo_file_that_is_no_archive_ended_in_a_long_traceback(tmp_path):
    from nemo_bias.integration.model import restore_model

    (tmp_path / "m.nemo").write_text("<html>")
    with pytest.raises(ValueError, match="is no NeMo checkpoint, which is a tar archive"):
        restore_model(tmp_path / "m.nemo")


def test_audio_that_is_none_ended_in_a_long_traceback(tmp_path):
    (tmp_path / "a.wav").write_text("<html>")
    with pytest.raises(AudioError, match=r"a\.wav is no audio that can be read"):
        check_audio([{"audio_filepath": "a.wav"}], tmp_path)
