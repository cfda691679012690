"""``aras bench augmentation`` as a user runs it."""

import json

from click.testing import CliRunner

from builder.cli import cli
from tests.makers.bench_release import bench_release


def test_one_command_runs_it_all_and_a_second_only_reports(tmp_path):
    bench_release(tmp_path / "release", test=6)
    words = [
        "-C", str(tmp_path), "bench", "augmentation", "release", "--small",
        "--steps", "2", "--batch", "2", "--seeds", "2", "--json",
    ]  # fmt: skip
    first = CliRunner().invoke(cli, words)
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert report["analysis"]["seeds"] == 2
    folder = tmp_path / "reports/augmentation/runs"
    runs = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    second = CliRunner().invoke(cli, words)
    assert json.loads(second.stdout)["analysis"] == report["analysis"]
    assert {path: path.stat().st_mtime_ns for path in runs} == runs
    refused = CliRunner().invoke(cli, [*words, "--balance", "even"])
    assert refused.exit_code == 2
    assert "balance target 'even' is unknown" in refused.output


def test_test_tiles_near_train_tiles_are_refused_in_words_that_fit_a_segmenter(tmp_path):
    bench_release(tmp_path / "release", test=6, test_west=30.0)
    words = ["-C", str(tmp_path), "bench", "augmentation", "release", "--small"]
    refused = CliRunner().invoke(cli, words)
    assert refused.exit_code == 2
    assert "lie nearer than 1 km to a train tile" in refused.output
    assert "retrieval" not in refused.output
