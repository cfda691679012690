"""Marks of readers: samples, files, precision, κ, proven with readers of known error."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from builder.cli import cli
from builder.core.errors import ArasError
from builder.core.manifest import read_manifest
from builder.explore.agreement import area_under_curve, kappa, proportion
from builder.explore.review import draw, items_of, read_files, read_review
from builder.explore.writer import open_page_source
from builder.release.check import violations
from builder.report import page
from builder.report.measure import measure


def reader(path: Path, name: str, items: list[dict], truth: dict, error: float, seed: int) -> Path:
    """The file of a simulated reader who errs on each item with probability ``error``."""
    rng = np.random.default_rng(seed)
    opened = truth["content_sha256"]
    marks = []
    for item in items:
        is_right = truth["right"][item["id"], item["stream"]]
        mark = ("right", "wrong")[int(is_right == (rng.random() < error))]
        marks.append({**item, "mark": mark, "at": "2026-11-01T10:00:00Z"})
    text = {"kind": "aras-review", "format": 1, "content_sha256": opened, "reader": name}
    path.write_text(json.dumps({**text, "marks": marks}))
    return path


@pytest.fixture(scope="module")
def reviewed(release, tmp_path_factory):
    """A sample of the tiny release, and a truth in which three of ten items are wrong."""
    opened = open_page_source(str(release))
    sample = draw(opened, 40, 5, ()).as_json()
    rng = np.random.default_rng(1)
    right = {(i["id"], i["stream"]): bool(rng.random() < 0.7) for i in sample["items"]}
    truth = {"content_sha256": sample["content_sha256"], "right": right}
    return opened, sample, truth, tmp_path_factory.mktemp("readers")


def test_a_sample_has_as_many_items_of_each_stream_and_class_as_asked_for(release) -> None:
    opened = open_page_source(str(release))
    items = items_of(opened)
    small, large = (draw(opened, per, 0, ()).as_json() for per in (2, 3))
    per = Counter((i["stream"], items[i["id"], i["stream"]].dominant) for i in small["items"])
    held = Counter((item.stream, item.dominant) for item in items.values())
    assert per == {stratum: min(2, n) for stratum, n in held.items()}
    assert {json.dumps(i) for i in small["items"]} < {json.dumps(i) for i in large["items"]}
    assert draw(opened, 2, 1, ()).as_json()["items"] != small["items"]
    with pytest.raises(ArasError, match="the release has absence"):
        draw(opened, 2, 0, ("nothing",))


def test_precision_of_readers_without_error_is_the_truth(reviewed) -> None:
    opened, sample, truth, folder = reviewed
    path = reader(folder / "a.json", "Ada", sample["items"], truth, 0.0, 0)
    review = read_review(opened, read_files([path]))
    for stream, precision in review.of_stream.items():
        own = [right for (_, of), right in truth["right"].items() if of == stream]
        assert (precision.right, precision.n) == (sum(own), len(own))
        assert precision.low < sum(own) / len(own) < precision.high
    assert sum(p.n for p in review.of_class.values()) == len(sample["items"])
    assert not review.kappas
    assert (review.stale, review.unknown) == (0, 0)


def test_the_agreement_of_readers_with_known_errors_is_what_theory_says(reviewed) -> None:
    opened, sample, truth, folder = reviewed
    errors = (0.1, 0.2)
    paths = [
        reader(folder / f"{name}.json", name, sample["items"], truth, error, seed)
        for seed, (name, error) in enumerate(zip("bc", errors, strict=True), 3)
    ]
    review = read_review(opened, read_files(paths))
    (value,) = review.kappas.values()
    n = len(sample["items"])
    assert value.n == n > 300
    share = np.mean(list(truth["right"].values()))
    said = [share * (1 - e) + (1 - share) * e for e in errors]
    agree = (1 - errors[0]) * (1 - errors[1]) + errors[0] * errors[1]
    chance = said[0] * said[1] + (1 - said[0]) * (1 - said[1])
    expected = (agree - chance) / (1 - chance)
    assert abs(value.value - expected) < 4 * np.sqrt(agree * (1 - agree) / n) / (1 - chance)
    unsure = sum(p.unsure for p in review.of_stream.values())
    assert unsure == n - round(value.observed * n), "who disagree decide nothing"


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    for share in (0.5, 0.9, 0.98):
        draws = rng.binomial(60, share, 2000)
        known = [proportion(int(right), 60) for right in draws]
        covered = np.mean([p.low <= share <= p.high for p in known])
        assert 0.91 < covered < 0.985, share
    assert proportion(10, 10).low == pytest.approx(0.72246, abs=1e-5)


def test_kappa_and_the_area_under_the_curve_are_those_of_the_textbook() -> None:
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert kappa(pairs).value == pytest.approx(0.4)
    assert kappa([("y", "y")] * 3).value is None
    assert area_under_curve([3, 2], [1, 2]) == 0.875
    assert area_under_curve([1], []) is None


def test_marks_of_another_text_and_of_other_rows_do_not_count(reviewed) -> None:
    opened, sample, truth, folder = reviewed
    items = [dict(item) for item in sample["items"][:6]]
    right = {(i["id"], i["stream"]): True for i in items}
    items[0]["digest"] = "0" * 16
    items[1]["id"] = "real/nowhere"
    right["real/nowhere", items[1]["stream"]] = True
    path = reader(folder / "s.json", "s", items, {**truth, "right": right}, 0, 0)
    review = read_review(opened, read_files([path]))
    assert (review.stale, review.unknown, review.readers) == (1, 1, {"s": 4})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1", "not JSON"),
        ('{"kind": "other"}', "not a file of marks"),
        ('{"kind":"aras-review","format":1,"content_sha256":"","reader":"","marks":[]}', "reader"),
    ],
)
def test_a_file_that_holds_no_marks_is_named(tmp_path, text, message) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ArasError, match=message) as caught:
        read_files([tmp_path / "bad.json"])
    assert "bad.json" in str(caught.value)


def test_the_commands_draw_and_read(release, reviewed, tmp_path) -> None:
    truth = reviewed[2]
    done = CliRunner().invoke(cli, ["review", "draw", str(release), str(tmp_path / "s.json")])
    assert done.exit_code == 0, done.output
    items = json.loads((tmp_path / "s.json").read_text())["items"]
    right = {(i["id"], i["stream"]): i["stream"] != "layout" for i in items}
    paths = [
        reader(tmp_path / f"{name}.json", f"*{name}*", items, {**truth, "right": right}, 0.05, i)
        for i, name in enumerate("xy")
    ]
    column = tmp_path / "column.csv"
    arguments = ["review", "read", *map(str, paths), "--release", str(release)]
    done = CliRunner().invoke(cli, [*arguments, "--column", str(column), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.output[done.output.index("{") :])
    assert (
        result["streams"]["layout"]["precision"]
        < 0.3
        < 0.8
        < result["streams"]["mask"]["precision"]
    )
    assert result["grounding"]["full"]["right"] > 0
    assert "2 readers" in result["card"]
    lines = column.read_text().splitlines()
    assert lines[0] == "id,stream,review,right,wrong,unsure"
    assert len(lines) == 1 + len(items)


def test_a_review_goes_into_the_card_and_the_report_beside_the_scores(
    release, reviewed, tmp_path
) -> None:
    truth = reviewed[2]
    copy = shutil.copytree(release, tmp_path / "release")
    sample = draw(open_page_source(str(copy)), 4, 0, ("full", "mask")).as_json()
    right = {(i["id"], i["stream"]): True for i in sample["items"]}
    paths = [
        reader(tmp_path / f"{name}.json", name, sample["items"], {**truth, "right": right}, 0, i)
        for i, name in enumerate("xy")
    ]
    arguments = ["review", "read", *map(str, paths), "--release", str(copy), "--card"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    review = read_manifest(copy).facts.review
    assert review is not None
    assert review.readers == 2
    assert review.streams["full"].precision == 1
    card = (copy / "README.md").read_text(encoding="utf-8")
    assert "Reviewed by 2 readers: what people" in card
    assert "| `mask` | 100" in card
    assert list(violations(copy)) == []
    report = measure(copy, None)
    assert report.review == review
    assert "<h3>Review by people</h3>" in page.render(copy, report)
