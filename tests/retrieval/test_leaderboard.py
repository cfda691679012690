"""The leaderboard, and the check that catches figures that vectors do not give."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from builder.cli import cli
from builder.core.errors import ArasError
from builder.core.files import read_json, write_json
from builder.core.manifest import read_manifest
from builder.release.check import violations
from builder.retrieval.benchmark import Model, run, write
from builder.retrieval.gallery import load
from builder.retrieval.leaderboard import board, check, figures
from builder.retrieval.result import read
from tests.makers.bench_release import bench_release
from tests.makers.damage import copy_of


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return bench_release(tmp_path_factory.mktemp("release"), train=6, synthetic=0)


@pytest.fixture
def submitted(release, tmp_path):
    write(run(load(release), Model("composition")), tmp_path / "a.json", tmp_path)
    return tmp_path / "a.json"


def test_the_best_model_stands_first(release, submitted, tmp_path):
    write(run(load(release), Model("random")), tmp_path / "b.json")
    text = board([(name, read(tmp_path / name)) for name in ("b.json", "a.json")])
    assert text.index("| composition (oracle) |") < text.index("| random (baseline) |")
    assert "## striped 0.1.0, test, captions: words" in text
    assert board([(n, read(tmp_path / n)) for n in ("a.json", "b.json")]) == text


def test_models_stand_before_baselines_and_chance_is_exact(release, submitted, tmp_path):
    files = Model("files", images=tmp_path / "images.parquet", texts=tmp_path / "texts.parquet")
    write(run(load(release), files), tmp_path / "c.json")
    text = board([(name, read(tmp_path / name)) for name in ("a.json", "c.json")])
    words = text[text.index("captions: words") :]
    model, baseline = (words.index(name) for name in (f"| files {tmp_path.name}/", "| composition"))
    assert model < words.index("which are no models") < baseline
    images = read(submitted).streams["words"].images
    one = f"{100 / images:.2f}"
    assert f"| chance (exact) | {one} | {5 * 100 / images:.2f} |" in words
    assert text.index("## striped 0.1.0, test, over streams") < text.index("captions: all")
    assert "| model | all | numbers | words | mean | file |" in text
    both = read(submitted).streams["all"].S.chance  # two captions an image
    assert both.i2t["R@1"] == pytest.approx(100 / images)
    missed = np.prod([(2 * images - 2 - k) / (2 * images - k) for k in range(5)])
    assert both.i2t["R@5"] == pytest.approx(100 * (1 - missed))


def test_honest_vectors_pass(release, submitted):
    assert check(submitted, release) == []


def test_a_figure_that_the_vectors_do_not_give_is_named(release, submitted):
    values = json.loads(submitted.read_text())
    values["streams"]["words"]["S"]["t2i"]["R@1"] += 1
    write_json(submitted, values)
    (problem,) = check(submitted, release)
    assert problem.startswith("words S t2i R@1: claims ")


def test_every_printed_figure_is_computed_again(release, submitted):
    values = json.loads(submitted.read_text())
    words = values["streams"]["words"]
    words["D"]["mR"] = 99.9
    words["S"]["intervals"]["mR"] = [99.0, 99.9]
    words["S"]["classes"]["tail"]["t2i"]["R@10"] = 99.9
    words["images"] += 1
    values["release"]["rows"] = 1000
    words["D"]["mAP@R"]["nothing"] = 1.0
    del words["C"]
    write_json(submitted, values)
    named = {problem.split(":")[0] for problem in check(submitted, release)}
    assert named == {
        "release rows",
        "words C",
        "words D mAP@R nothing",
        "words D mR",
        "words S classes tail t2i R@10",
        "words S intervals mR[0]",
        "words S intervals mR[1]",
        "words images",
    }


def test_one_stream_cannot_pass_for_all(release, tmp_path):
    result = run(load(release), Model("composition"), ["words"])
    official = run(load(release), Model("composition")).result.as_json()["streams"]["all"]
    path = tmp_path / "a.json"
    values = write(result, path, tmp_path).as_json()
    values["streams"]["all"] = {
        **values["streams"]["words"],
        "texts_sha256": official["texts_sha256"],
        "texts": official["texts"],
    }
    write_json(path, values)
    with pytest.raises(ArasError, match="has no vector of these texts"):
        check(path, release)
    # With vectors of all captions at hand, the figures are those of all captions.
    write(run(load(release), Model("random")), tmp_path / "b.json", tmp_path)
    values["model"]["vectors"] = read_json(tmp_path / "b.json")["model"]["vectors"]
    write_json(path, values)
    assert any(problem.startswith("all S mR: claims") for problem in check(path, release))


def test_a_stream_that_the_release_lacks_is_named(release, submitted):
    values = json.loads(submitted.read_text())
    values["streams"]["poems"] = values["streams"].pop("words")
    write_json(submitted, values)
    (problem,) = check(submitted, release)
    assert problem.startswith("poems: ")
    assert "has no such captions; it has numbers, words" in problem


def test_other_vectors_are_named(release, submitted, tmp_path):
    (tmp_path / "texts.parquet").write_bytes((tmp_path / "images.parquet").read_bytes())
    assert check(submitted, release) == [
        "texts.parquet: is not the file whose digest the result names"
    ]
    (tmp_path / "texts.parquet").unlink()
    with pytest.raises(ArasError, match="must lie beside"):
        check(submitted, release)


def test_another_release_and_results_without_vectors_are_refused(release, submitted, tmp_path):
    other = bench_release(tmp_path / "other", train=6, synthetic=0, test_west=32.0)
    with pytest.raises(ArasError, match="about another release"):
        check(submitted, other)
    write(run(load(release), Model("random")), tmp_path / "bare.json")
    with pytest.raises(ArasError, match="names no vectors"):
        check(tmp_path / "bare.json", release)
    with pytest.raises(ArasError, match="not a result"):
        read(release / "manifest.json")


def test_the_card_of_a_release_shows_the_figures_of_baselines_by_their_protocol(project, tmp_path):
    copy = copy_of(project.releases / "0.1.0", tmp_path)
    results = []
    for name, model in (("a", Model("random")), ("b", Model("bm25", "composition"))):
        outcome = write(run(load(copy, min_km=0.3), model), tmp_path / f"{name}.json")
        results.append((name, outcome))
    for files in (["a.json"], ["a.json", "b.json"]):
        command = ["-C", str(tmp_path), "bench", "leaderboard", *files, "--card", copy.name]
        outcome = CliRunner().invoke(cli, command)
        assert outcome.exit_code == 0, outcome.output
    card = (copy / "README.md").read_text(encoding="utf-8")
    section = card.split("### Retrieval baselines")[1].split("\n## ")[0]
    assert "by the strict protocol (S)" in section
    for _, result in results:
        for stream, evaluation in result.streams.items():
            strict = evaluation.S
            recalls = [way[f"R@{k}"] for way in (strict.t2i, strict.i2t) for k in (1, 5, 10)]
            low, high = strict.intervals.mR
            line = f"| `{stream}`, test (28 tiles) | {result.model.name} (baseline) | "
            line += " | ".join(f"{value:.1f}" for value in (*recalls, strict.mR))
            assert section.count(f"{line} ({low:.1f}–{high:.1f}) |") == 1
    assert "\n- random: one draw of chance, whose exact value is in every result.\n" in section
    assert violations(copy) == []
    both = CliRunner().invoke(cli, [*command, "--check", copy.name])
    assert (both.exit_code, "--check and --card exclude each other" in both.output) == (2, True)


def test_figures_of_another_release_do_not_come_into_a_card(release, submitted):
    manifest = read_manifest(release)
    other = manifest.model_copy(update={"content_sha256": "0" * 64})
    with pytest.raises(ArasError, match=r"a\.json: is about another release \(content "):
        figures([("a.json", read(submitted))], other)


def test_figures_of_rows_near_train_tiles_do_not_come_into_a_card(release, submitted):
    result = read(submitted)
    checks = result.release.checks
    kept = checks.near.model_copy(update={"rows": 3, "rule": "keep"})
    facts = result.release.plus(checks=checks.plus(near=kept))
    with pytest.raises(ArasError, match="without --near keep"):
        figures([("a.json", result.plus(release=facts))], read_manifest(release))
