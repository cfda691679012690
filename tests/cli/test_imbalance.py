"""``aras bench imbalance`` as a user runs it."""

import json

from click.testing import CliRunner

from builder.cli import cli
from tests.makers.bench_release import bench_release


def test_one_command_runs_it_all_and_a_second_only_reports(tmp_path):
    bench_release(tmp_path / "release", test=6)
    words = [
        "-C", str(tmp_path), "bench", "imbalance", "release", "--stream", "words", "--small",
        "--steps", "2", "--batch", "4", "--seeds", "2", "--ratio", "0.5", "--json",
    ]  # fmt: skip
    first = CliRunner().invoke(cli, words)
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert report["analysis"]["seeds"] == 2
    runs = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "reports/imbalance/runs").iterdir()
    }
    second = CliRunner().invoke(cli, words)
    assert json.loads(second.stdout)["analysis"] == report["analysis"]
    assert {path: path.stat().st_mtime_ns for path in runs} == runs
    refused = CliRunner().invoke(cli, [*words[:5], "--stream", "poem"])
    assert refused.exit_code == 2
    assert "it has numbers, words" in refused.output
