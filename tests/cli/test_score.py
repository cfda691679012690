"""``aras score``, run as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "aras400k_captions" / "real_captions_head.csv"
CLASSES = "Tree,Shrub,Grass,Crop,Built-up,Barren,Water"


def aras(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "builder", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_table_for_people_and_one_object_for_programs(tmp_path):
    (tmp_path / "c.csv").write_text(f"text,{CLASSES}\nDense forest.,1,0,0,0,0,0,0\n")
    people = aras("score", "captions", "c.csv", "--out", "s.csv", cwd=tmp_path)
    assert people.returncode == 0, people.stderr
    assert "grounding" in people.stdout
    assert (tmp_path / "s.csv").read_text().splitlines()[1].startswith("0,1.0,1.0,1.0,0.0")
    program = aras("-C", tmp_path, "score", "captions", "c.csv", "--json", cwd=ROOT)
    assert json.loads(program.stdout)["streams"]["text"]["means"]["grounding"] == 1


def test_bad_input_is_one_clear_line_and_exit_code_2(tmp_path):
    (tmp_path / "c.csv").write_text("a,b\n1,2\n")
    for arguments, complaint in (
        (["c.csv"], "name the caption column with --text"),
        (["c.csv", "--text", "z"], "no column 'z'"),
        (["c.csv", "--text", "a", "--out", "s.txt"], "cannot write .txt"),
        (["missing.csv"], "no such file"),
    ):
        done = aras("score", "captions", *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("Error: ")
        assert complaint in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_a_lexicon_of_ones_own_changes_the_scores(tmp_path):
    (tmp_path / "c.csv").write_text(f"text,{CLASSES}\nA wadi.,0,0,0,0,0,0,1\n")
    (tmp_path / "l.toml").write_text('version = "1-wadi"\n[classes]\nWater = ["wadi"]\n')
    for options, grounding in ((["--lexicon", "l.toml"], 1), ([], 0)):
        done = aras("score", "captions", "c.csv", "--json", *options, cwd=tmp_path)
        summary = json.loads(done.stdout)
        assert summary["streams"]["text"]["means"]["grounding"] == grounding


@pytest.mark.skipif(not REAL.is_file(), reason="the shared caption rows are not here")
def test_the_published_file_is_scored_stream_by_stream(tmp_path):
    done = aras("score", "captions", REAL, "--json", "--out", tmp_path / "s.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    streams = json.loads(done.stdout)["streams"]
    assert len(streams) == 6
    assert streams["hybrid_gemma3-4b"]["means"]["leak"] > 0.9
    assert streams["vision_gemma3-4b"]["means"]["leak"] == 0
    assert streams["text_qwen3-4b"]["means"]["grounding"] > 0.9
