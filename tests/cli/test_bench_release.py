"""``aras bench retrieval``, ``compare`` and ``leaderboard`` as a user runs them."""

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner

from builder.cli import cli
from builder.retrieval.baselines import BASELINES, ORACLE, Baseline, Vectors
from builder.retrieval.blind import unit_rows
from builder.retrieval.result import read
from tests.makers.bench_release import bench_release
from tests.makers.tiny_clip import tiny_clip


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    bench_release(folder / "release", train=6, synthetic=0)
    return folder


def bench(project, *words):
    return CliRunner().invoke(cli, ["-C", str(project), "bench", *words])


def test_from_a_model_to_the_leaderboard(project):
    for model, more in (("composition", ["--vectors", "reports"]), ("random", [])):
        outcome = bench(
            project, "retrieval", "release", "--model", model, "--stream", "words", "--json",
            "--out", f"reports/{model}.json", *more,
        )  # fmt: skip
        assert outcome.exit_code == 0, outcome.output
        assert json.loads(outcome.stdout)["model"]["name"] == model
        page = (project / f"reports/{model}.html").read_text()
        assert "<td>words, strict</td>" in page
        assert page.count("data:image/png;base64,") == 1
    a, b = "reports/composition.json", "reports/random.json"
    outcome = bench(project, "compare", a, b)
    assert outcome.exit_code == 0
    assert "composition − random" in outcome.stdout
    assert bench(project, "leaderboard", a, b).exit_code == 0
    assert "| composition (oracle) |" in (project / "LEADERBOARD.md").read_text()
    assert bench(project, "leaderboard", a, "--out", "reports/BOARD.md").exit_code == 0
    assert f"| `{Path(a).name}` |" in (project / "reports/BOARD.md").read_text()
    assert bench(project, "leaderboard", a, "--check", "release").exit_code == 0
    result = json.loads((project / a).read_text())
    result["streams"]["words"]["S"]["mR"] = 99.0
    (project / a).write_text(json.dumps(result))
    outcome = bench(project, "leaderboard", a, "--check", "release")
    assert outcome.exit_code == 1
    assert "claims 99.00" in outcome.output


def test_a_result_is_a_record_that_says_what_it_is_and_that_nothing_overwrites(project):
    said = {
        "--name": "Mine | v2", "--author": "A. Nobody", "--link": "https://example.org/mine",
        "--training": "fine-tuned on striped 0.1.0 train",
    }  # fmt: skip
    words = [word for pair in said.items() for word in pair]
    command = ("retrieval", "release", "--model", "random", "--stream", "words", "--seed", "3")
    first, again = (bench(project, *command, *words) for _ in range(2))
    assert first.exit_code == again.exit_code == 0, first.output
    today = datetime.now(timezone.utc).date().isoformat()
    start = "retrieval-striped-0.1.0-mine-v2-words-seed3"
    files = [project / f"reports/{start}-{today}{number}.json" for number in ("", "-2")]
    assert {*(project / "reports").glob(f"{start}*.json")} == {*files}
    entry = read(files[0]).entry
    assert (entry.author, entry.link, entry.date) == ("A. Nobody", said["--link"], today)
    assert max(len(line) for line in first.stdout.splitlines()) <= 80
    for text in ("Mine | v2 (baseline) on striped 0.1.0", "training: fine-tuned on", "seed: 3"):
        assert text in first.stdout
    assert bench(project, "leaderboard", *map(str, files)).exit_code == 0
    board = (project / "LEADERBOARD.md").read_text()
    assert f"| A. Nobody | {said['--training']} | 3 | {today} | {said['--link']} |" in board
    assert "| Mine \\| v2 (baseline) |" in board
    before = files[0].read_bytes()
    refused = bench(project, *command, "--out", str(files[0]))
    assert refused.exit_code == 2
    assert "already exists; not changed" in refused.output
    assert files[0].read_bytes() == before
    assert bench(project, *command, "--link", "mine.example").exit_code == 2


def test_vectors_of_another_run_are_not_overwritten(project):
    command = (
        "retrieval",
        "release",
        "--model",
        "random",
        "--stream",
        "words",
        "--vectors",
        "mine",
    )
    assert bench(project, *command).exit_code == 0
    refused = bench(project, *command)
    assert refused.exit_code == 2
    assert "images.parquet already exists; not changed" in refused.output


def test_a_model_in_a_folder_of_the_project_is_named_as_the_release_is(project):
    tiny_clip(project / "models/mine", ["a tile of grass", "words on water"])
    outcome = bench(
        project, "retrieval", "release", "--model", "models/mine", "--stream", "words", "--json"
    )
    assert outcome.exit_code == 0, outcome.output
    model = json.loads(outcome.stdout)["model"]
    assert (model["name"], model["source"]) == ("mine", "folder")


def test_a_new_baseline_is_one_line_from_help_to_leaderboard(project, monkeypatch):
    def lengths(question):
        """Vectors of nothing but the length of an image's id, and of a caption."""
        images, texts = ([[len(s), 1.0] for s in of] for of in (question.rows.ids, question.texts))
        return Vectors(unit_rows(images), unit_rows(texts), {"revision": "1"})

    monkeypatch.setitem(BASELINES, "length", Baseline("compares lengths", lengths, role=ORACLE))
    assert "    length           compares lengths\n" in bench(project, "retrieval", "--help").output
    folder = "results/length"
    outcome = bench(
        project, "retrieval", "release", "--model", "length", "--stream", "words",
        "--out", f"{folder}/result.json", "--vectors", folder,
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    result = read(project / folder / "result.json")
    assert (result.model.source, result.model.role) == ("bundled", ORACLE)
    assert result.model.revision == "1"
    assert bench(project, "leaderboard", f"{folder}/result.json").exit_code == 0
    assert "| length (oracle) |" in (project / "LEADERBOARD.md").read_text()
    outcome = bench(project, "leaderboard", f"{folder}/result.json", "--check", "release")
    assert outcome.exit_code == 0, outcome.output


def test_the_vectors_of_a_benchmark_go_into_bench_embeddings(project):
    outcome = bench(
        project, "retrieval", "release", "--model", "random", "--stream", "words",
        "--vectors", "v", "--out", "v/result.json",
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.output
    images, texts = (str(project / f"v/{name}.parquet") for name in ("images", "texts"))
    options = ("--images", images, "--texts", texts, "--owner", texts, "--json")
    outcome = bench(project, "embeddings", *options)
    assert outcome.exit_code == 0, outcome.output
    strict = read(project / "v/result.json").streams["words"].S
    assert json.loads(outcome.stdout)["mR"] == pytest.approx(strict.mR)


def test_what_is_refused_exits_with_2(project):
    outcome = bench(project, "retrieval", "release", "--model", "random", "--stream", "poem")
    assert outcome.exit_code == 2
    assert "it has numbers, words" in outcome.output
