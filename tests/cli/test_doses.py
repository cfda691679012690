"""``aras bench imbalance --doses`` as a user runs it."""

import json

from click.testing import CliRunner

from builder.cli import cli
from tests.makers.bench_release import bench_release

TABLE = """
controls = ["real", "repeated", "shuffled"]

[training]
steps = 2
batch = 4

[doses.oracle]
kind = "held-out"

[doses.labels-50]
kind = "labels"
strength = 0.5

[doses.own]
kind = "release"

[doses.texture]
kind = "texture"
"""


def test_one_command_says_what_it_costs_runs_the_table_and_answers(tmp_path):
    bench_release(tmp_path / "release", train=260, synthetic=90, test=120)
    (tmp_path / "doses.toml").write_text(TABLE)
    words = ["-C", str(tmp_path), "bench", "imbalance", "release", "--doses", "doses.toml"]
    first = CliRunner().invoke(cli, [*words, "--seeds", "2", "--json"])
    assert first.exit_code == 0, first.output
    assert "forecast: 14 runs are missing, about 1 CPU minutes" in first.stderr
    analysis = json.loads(first.stdout)
    assert {effect["dose"] for effect in analysis["effects"]} == {
        "oracle", "labels-50", "own", "texture",
    }  # fmt: skip
    folder = tmp_path / "reports/imbalance/doses"
    assert (folder / "report.html").exists()
    second = CliRunner().invoke(cli, [*words, "--seeds", "2"])
    assert "every run has a record" in second.stderr
    assert second.stdout.startswith("NO CONCLUSION")  # two steps teach nothing


def test_what_cannot_be_run_is_refused_with_the_way_out(tmp_path):
    bench_release(tmp_path / "release")
    (tmp_path / "doses.toml").write_text(TABLE)
    words = ["-C", str(tmp_path), "bench", "imbalance", "release"]
    bare = CliRunner().invoke(cli, words)
    assert bare.exit_code == 2
    assert "give --stream NAME, or --doses FILE" in bare.output
    few = CliRunner().invoke(cli, [*words, "--doses", "doses.toml"])
    assert few.exit_code == 2
    assert "the experiment needs three" in few.output
    (tmp_path / "doses.toml").write_text("[doses.x]\nkind = 'held-out'\nstrengt = 1\n")
    typo = CliRunner().invoke(cli, [*words, "--doses", "doses.toml"])
    assert typo.exit_code == 2
    assert "doses.x.strengt" in typo.output
