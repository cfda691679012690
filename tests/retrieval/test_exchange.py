"""Results of mteb come in, unchecked or compared with their vectors; results go out to the Hub."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from huggingface_hub import parse_eval_result_entries

from builder.cli import cli
from builder.core.errors import ArasError
from builder.core.files import read_json
from builder.core.manifest import read_manifest
from builder.release import benchmark as folder
from builder.retrieval import benchmark, exchange
from builder.retrieval.benchmark import Model
from builder.retrieval.gallery import load
from builder.retrieval.leaderboard import board, check
from builder.retrieval.result import read
from tests.makers.bench_release import bench_release

MODEL = "tests.makers.toy_encoders:colours"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    release = bench_release(tmp_path_factory.mktemp("exchange"), test=12)
    assert folder.write_benchmark(release, read_manifest(release))
    folder.write_texts(release, read_manifest(release))
    return release


@pytest.fixture(scope="module")
def ours(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of aras with its vectors beside it."""
    path = tmp_path_factory.mktemp("ours") / "mine.json"
    benchmark.write(benchmark.run(load(release), Model(MODEL)), path, path.parent)
    return path


def mteb_files(place: Path, release: Path, ours: Path) -> Path:
    """What mteb writes for the same model; test_benchmark shows that it has these figures."""
    streams = read(ours).streams
    place = place / "toy__colours" / "1"
    place.mkdir(parents=True)
    (place / "model_meta.json").write_text(json.dumps({"name": "toy/colours", "revision": "1"}))
    for task in read_json(release / folder.FACTS)["tasks"]:
        scores = []
        for name, evaluation in streams.items():
            own = evaluation.protocols[task["protocol"]]
            columns = {f"R_at_{k}": getattr(own, task["way"])[f"R@{k}"] / 100 for k in (1, 5, 10)}
            if own.graded:
                columns["expected_ndcg_at_10"] = getattr(own.graded, task["way"]) / 100
            scores.append({"hf_subset": name, **{k: round(v, 6) for k, v in columns.items()}})
        value = {"task_name": task["name"], "dataset_revision": "v0.1.0", "mteb_version": "2.26.24"}
        text = json.dumps({**value, "scores": {"test": scores}})
        (place / f"{task['name']}.json").write_text(text)
    return place


def aras(*words: str | Path):
    return CliRunner().invoke(cli, ["bench", *map(str, words)])


def test_figures_of_mteb_come_in_marked_unchecked(
    release: Path, ours: Path, tmp_path: Path
) -> None:
    place = mteb_files(tmp_path, release, ours)
    answer = aras("import-results", place, "--release", release, "--out", tmp_path)
    assert answer.exit_code == 0, answer.output
    result = read(tmp_path / "retrieval-mteb-toy-colours.json")
    mine = read(ours)
    assert result.model.name == "toy/colours"
    assert result.release.ids_sha256 == mine.release.ids_sha256
    for name, evaluation in mine.streams.items():
        theirs = result.streams[name]
        assert theirs.texts_sha256 == evaluation.texts_sha256
        for protocol in ("S", "D", "C"):
            scores = theirs.protocols[protocol]
            assert scores.mR == pytest.approx(evaluation.protocols[protocol].mR, abs=1e-3)
    text = board([("mine.json", mine), ("theirs.json", result)])
    assert "toy/colours (unchecked)" in text
    assert text.count(", captions: ") == len(mine.streams)  # beside each other in the same tables
    with pytest.raises(ArasError, match="names no vectors"):
        check(tmp_path / "retrieval-mteb-toy-colours.json", release)


def test_with_the_vectors_that_gave_them_they_pass_the_check(
    release: Path, ours: Path, tmp_path: Path
) -> None:
    place = mteb_files(tmp_path, release, ours)
    vectors = [f"--{what}={ours.parent / what}.parquet" for what in ("images", "texts")]
    answer = aras("import-results", place, "--release", release, "--out", tmp_path, *vectors)
    assert answer.exit_code == 0, answer.output
    path = tmp_path / "retrieval-mteb-toy-colours.json"
    assert check(path, release) == []
    assert "(unchecked)" not in board([("theirs.json", read(path))])


def test_figures_that_the_vectors_do_not_give_are_refused_by_name(
    release: Path, ours: Path, tmp_path: Path
) -> None:
    place = mteb_files(tmp_path, release, ours)
    path = place / "StripedT2IRetrieval.json"
    value = json.loads(path.read_text())
    value["scores"]["test"][0]["R_at_1"] += 0.01
    path.write_text(json.dumps(value))
    vectors = [f"--{what}={ours.parent / what}.parquet" for what in ("images", "texts")]
    answer = aras("import-results", place, "--release", release, "--out", tmp_path, *vectors)
    assert answer.exit_code == 2
    assert "numbers S t2i R@1" in answer.output


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"task_name": "STS12"}, "task STS12 is not of"),
        ({"dataset_revision": "v9"}, "is about revision v9"),
        ({"scores": {"train": []}}, "no split test"),
    ],
)
def test_files_about_something_else_are_refused(
    release: Path, ours: Path, tmp_path: Path, edit: dict, said: str
) -> None:
    path = mteb_files(tmp_path, release, ours) / "StripedT2IRetrieval.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **edit}))
    with pytest.raises(ArasError, match=said):
        exchange.read_mteb([path], release)


def test_a_result_goes_to_the_hub_under_the_ids_of_its_leaderboard(
    release: Path, ours: Path, tmp_path: Path
) -> None:
    words = ("--dataset", "someone/striped", "--revision", "abc", "--url", "https://example.org")
    answer = aras("export-results", ours, "--release", release, *words, "--out", tmp_path)
    assert answer.exit_code == 0, answer.output
    (path,) = (tmp_path / ".eval_results").glob("*.yaml")
    entries = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    known = {task["id"] for task in yaml.safe_load((release / folder.EVAL).read_text())["tasks"]}
    assert {entry.task_id for entry in entries} == known
    values = {entry.task_id: entry.value for entry in entries}
    strict = read(ours).streams["words"].S
    expected = pytest.approx(strict.t2i["R@10"], abs=1e-3)
    assert values["StripedT2IRetrieval_words_test"] == expected
    assert {entry.dataset_id for entry in entries} == {"someone/striped"}
    assert {entry.dataset_revision for entry in entries} == {"abc"}


def test_a_result_about_other_rows_does_not_go_out(
    release: Path, ours: Path, tmp_path: Path
) -> None:
    other = bench_release(tmp_path / "other", test=10)
    assert folder.write_benchmark(other, read_manifest(other))
    answer = aras("export-results", ours, "--release", other, "--dataset", "a/b")
    assert answer.exit_code == 2
    assert "other rows than the tasks" in answer.output
