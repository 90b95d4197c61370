"""The scripts that show what becomes of a list."""

from __future__ import annotations

from programs import DEMO, ROOT, run


def test_check_entities(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("Tesla\nJürgen\ntesla\n北京\n")
    shown = run(ROOT / "scripts" / "check_entities.py", path, "--model", DEMO / "demo.nemo", fails=True).splitlines()
    assert f'{path}:2: "Jürgen" is matched as "jurgen" (case, accents)' in shown
    assert any(line.startswith(f'{path}:3: "tesla" is merged with "Tesla"') for line in shown)
    assert any(line.startswith(f'{path}:4: "北京" cannot be written') for line in shown)
    assert shown[-1] == f"{path}: 4 entities, 2 phrases to look for, 1 not writable"


def test_check_entities_without_a_model(tmp_path):
    (tmp_path / "names.txt").write_text("# mine\n1. Oslo\n2. Port Moresby\n")
    comment, guess, summary = run(ROOT / "scripts" / "check_entities.py", tmp_path / "names.txt").splitlines()
    assert "comment" in comment and "itemized" in guess and ": 2 entities; --model MODEL.nemo shows" in summary


def test_check_entities_shows_pronunciations(tmp_path):
    """Without a model, and without loading NeMo."""
    path = tmp_path / "names.tsv"
    path.write_text("text\tpronunciations\nNguyen\tW IH1 N|nuˈjɛn\nNBC\t\n北京\t\n")
    lexicon = tmp_path / "words.dict"
    lexicon.write_text("nbc EH N B IY S IY\n")
    program = f"""
import sys
sys.path.insert(0, "scripts")
import check_entities
code = check_entities.main([{str(path)!r}, "--pronunciations", "--lexicon", {str(lexicon)!r}])
assert not {{"nemo", "torch"}} & set(sys.modules)
sys.exit(code)
"""
    shown = run("-c", program, fails=True, XDG_CACHE_HOME=str(tmp_path)).splitlines()
    assert shown == [
        f'{path}:2: "Nguyen"',
        "    W IH N (user, 0.50)",
        "    N UW Y EH N (user, 0.50)",
        f'{path}:3: "NBC"',
        "    EH N B IY S IY (lexicon, 1.00)",
        f'{path}:4: "北京" has no pronunciation; add one to the list',
        f"{path}: 3 entities, 1 without a pronunciation",
    ]
    path.write_text("text\tpronunciations\nXi\tSH IX\n")
    shown = run(ROOT / "scripts" / "check_entities.py", path, "--pronunciations", fails=True)
    assert shown.startswith(f'check_entities.py: {path}:2: pronunciation "SH IX": "IX" is not an ARPAbet phone')


def test_check_entities_tells_what_is_not_looked_for(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("text,weight\nTesla,2\nEdison,-1\nWatt,0\n")
    shown = run(ROOT / "scripts" / "check_entities.py", path, "--model", DEMO / "demo.nemo").splitlines()
    assert shown[-1] == f"{path}: 3 entities, 1 phrases to look for, 0 not writable, 1 kept out of the text, 1 switched off"
    (tmp_path / "said.jsonl").write_text('{"text": "Kath", "pronunciations": ["XX YY"]}\n')
    shown = run(ROOT / "scripts" / "check_entities.py", tmp_path / "said.jsonl", "--model", DEMO / "demo.nemo", fails=True)
    assert '"XX" is not an ARPAbet phone' in shown
    for option, needs in (("--lexicon", "--pronunciations"), ("--g2g-file", "--variants"), ("--language", "--model")):
        shown = run(ROOT / "scripts" / "check_entities.py", path, option, "xx", fails=True)
        assert f"{option} needs {needs}" in shown


def test_measure_g2p(tmp_path):
    lexicon = tmp_path / "words.dict"
    lexicon.write_text("smith S M IH TH\nwilson W IH L S AH N\nanna OW\nusa Y UW EH S EY\n")
    shown = run(ROOT / "scripts" / "measure_g2p.py", lexicon)
    assert shown.startswith("4 words: first reading right 50.0%, one of two 50.0%, phone error rate of the first ")
    lexicon.write_text("smith\n")
    shown = run(ROOT / "scripts" / "measure_g2p.py", lexicon, fails=True)
    assert shown == f'measure_g2p.py: {lexicon}:1: "smith" has no phones; write them after the word\n'


def test_check_entities_with_a_broken_list(tmp_path):
    path = tmp_path / "names.jsonl"
    path.write_text('"tesla"\n{"text": "edison", "wieght": 2}\n')
    shown = run(ROOT / "scripts" / "check_entities.py", path, "--model", DEMO / "demo.nemo", fails=True)
    assert shown.startswith(f"check_entities.py: {path}:2: ") and "weight" in shown


def test_check_entities_on_a_model_that_writes_both_cases(tmp_path):
    """A phrase is looked for in several forms; each is written once."""
    path = tmp_path / "names.txt"
    path.write_text("port moresby\nTesla\nzoo\n")
    program = f"""
import sys
sys.path.insert(0, "scripts")
import check_entities
from nemo_bias.decoder.vocabulary import Vocabulary
letters = "abelmoprsty"
pieces = ("▁", *letters, *letters.upper(), *"▁p ▁P".split())
check_entities.model_vocabulary = lambda path: Vocabulary(pieces, len(pieces))
sys.exit(check_entities.main([{str(path)!r}, "--model", {str(path)!r}]))
"""
    shown = run("-c", program, fails=True).splitlines()
    assert shown[-1] == f"{path}: 3 entities, 2 phrases to look for, 1 not writable"
