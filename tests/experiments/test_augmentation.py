"""The augmentation experiment from end to end on a tiny release, interrupted and resumed."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError, WorkFailed
from builder.experiments import augmentation, augmentation_report
from builder.experiments.augmentation import Bench, Experiment, counts, design, load, run
from builder.land.classes import CLASSES
from builder.land.pictures import decode_mask, decode_png
from builder.models import segmenter
from builder.models.segmenter import Settings
from builder.retrieval.gallery import pictures
from tests.makers.bench_release import SIZE, bench_release

TINY = Settings(steps=4, batch=4, crop=SIZE, widths=(8, 8, 16, 16), decoder=8)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return bench_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def rows(release):
    return load(release)


@pytest.fixture(scope="module")
def done(release, tmp_path_factory):
    experiment = Experiment(release, tmp_path_factory.mktemp("out"), TINY, ratio=0.5, seeds=2)
    return run(experiment, Engine("serial"))


def arm_of(arms, name):
    return next(one for one in arms if one.name == name)


def test_arms_that_are_compared_have_as_many_rows(rows):
    arms = design(rows, ratio=0.25)
    sizes = {one.name: len(one.pool) for one in arms}
    assert sizes == {"real": 24, "oversampled": 30, "synthetic": 6, "natural": 30, "balanced": 30}
    synthetic = {one.name: int(rows.synthetic[one.pool].sum()) for one in arms}
    assert synthetic == {
        "real": 0, "oversampled": 0, "synthetic": 6, "natural": 6, "balanced": 6
    }  # fmt: skip
    assert len(arm_of(design(rows, ratio=9), "natural").pool) == 24 + 12


def test_balanced_rows_are_more_even_and_natural_ones_like_real(rows):
    def spread(name):
        return np.std(rows.shares[arm_of(arms, name).pool].mean(0))

    arms = design(rows)
    assert spread("balanced") < spread("real")
    real = rows.shares[rows.real].mean(0)
    drawn = [arm_of(arms, name).pool for name in ("natural", "balanced")]
    plain, even = (rows.shares[pool[rows.synthetic[pool]]].mean(0) for pool in drawn)
    assert np.abs(plain - real).sum() < np.abs(even - real).sum()
    oversampled, mixed = (
        rows.shares[arm_of(arms, name).pool].mean(0) for name in ("oversampled", "balanced")
    )
    assert np.abs(oversampled - mixed).sum() < np.abs(real - mixed).sum()


def test_the_balance_is_the_recipes_and_relative_to_real_rows(rows):
    arms = {one: design(rows, one) for one in ("natural", "tempered:0.5", "Water=0.5")}
    spread = [np.std(rows.shares[arm_of(made, "balanced").pool].mean(0)) for made in arms.values()]
    assert spread[1] < spread[0]
    water = CLASSES.index("Water")
    pools = [arm_of(made, "balanced").pool for made in arms.values()]
    assert rows.shares[pools[2]].mean(0)[water] > rows.shares[pools[0]].mean(0)[water]
    np.testing.assert_array_equal(pools[0], arm_of(arms["natural"], "natural").pool)
    with pytest.raises(ArasError, match="balance target 'even' is unknown"):
        design(rows, "even")


def test_both_sources_are_needed(tmp_path):
    with pytest.raises(ArasError, match="no synthetic train rows"):
        load(bench_release(tmp_path, synthetic=0))


def test_counts_are_hits_truth_and_found_of_every_tile():
    truth = np.array([[[0, 0], [1, 2]], [[3, 3], [3, 3]]], np.uint8)
    found = np.array([[[0, 1], [1, 1]], [[3, 3], [3, 6]]], np.uint8)
    hit, real, seen = np.split(counts(truth, found), 3, axis=1)
    assert hit.tolist() == [[1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 3, 0, 0, 0]]
    assert real.tolist() == [[2, 1, 1, 0, 0, 0, 0], [0, 0, 0, 4, 0, 0, 0]]
    assert seen.tolist() == [[1, 3, 0, 0, 0, 0, 0], [0, 0, 0, 3, 0, 0, 1]]


def test_decoded_tiles_are_those_of_the_release(done, release):
    bench, _ = done
    pixels = bench.train_tiles.pixels
    for column in ("image", "mask"):
        for where, data in pictures(release, bench.rows.ids, "train", column=column):
            for i, one in zip(where, data, strict=True):
                if column == "image":
                    np.testing.assert_array_equal(pixels[i, ..., :3], decode_png(one, "x"))
                else:
                    np.testing.assert_array_equal(pixels[i, ..., 3], decode_mask(one, "x"))


def test_every_arm_is_run_with_every_seed_for_equal_steps(done):
    bench, records = done
    assert [(one["arm"], one["seed"]) for one in records] == bench.trials
    assert len(bench.trials) == 5 * 2
    assert {one["settings"]["steps"] for one in records} == {4}
    pixels = SIZE * SIZE * len(bench.test)
    for one in records:
        hit, truth, found = np.split(np.array(one["counts"]), 3, axis=1)
        assert truth.sum() == found.sum() == pixels
        np.testing.assert_array_equal(truth, bench.test.pixels)
        assert (hit <= np.minimum(truth, found)).all()
    assert not list((bench.experiment.out / "runs").glob("*/"))


def test_a_run_repeated_elsewhere_gives_the_same_counts(done, tmp_path):
    bench, records = done
    again = Bench(replace(bench.experiment, out=tmp_path)).run(("balanced", 1))
    first = next(one for one in records if (one["arm"], one["seed"]) == ("balanced", 1))
    for name in ("key", "loss", "counts"):
        assert again[name] == first[name]
    assert first["loss"] != records[0]["loss"]


def test_finished_runs_are_kept_and_others_resumed(release, tmp_path, monkeypatch):
    experiment = Experiment(release, tmp_path, TINY, ratio=0.5, seeds=2)
    real = segmenter.train_tiles
    trained = []

    def fails_once(folder, *arguments):
        trained.append(folder.name)
        if len(trained) == 3:
            raise WorkFailed("power cut")
        return real(folder, *arguments)

    monkeypatch.setattr(segmenter, "train_tiles", fails_once)
    with pytest.raises(WorkFailed, match=r"(?s)1 of 10 runs failed.*power cut"):
        run(experiment, Engine("serial"))
    assert len(trained) == 10
    _, records = run(experiment, Engine("serial"))
    assert trained[10:] == [trained[2]]
    _, again = run(experiment, Engine("serial"))
    assert len(trained) == 11
    assert again == records


def test_crops_are_no_larger_than_the_tiles(release, tmp_path):
    wide = Experiment(release, tmp_path, replace(TINY, crop=256))
    assert Bench(wide)._settings(("real", 0)).crop == SIZE


def test_the_report_says_what_can_and_cannot_be_concluded(done):
    bench, records = done
    told = augmentation_report.write(bench, records)
    out = bench.experiment.out
    assert json.loads((out / "report.json").read_text())["conclusions"] == told["conclusions"]
    text = (out / "report.md").read_text()
    assert text.index("## What can be concluded") < text.index("## What cannot")
    for name in CLASSES:  # a line of F1 and one of IoU, with intervals
        assert len(re.findall(rf"^\| {name} \|.*\(\d", text, re.MULTILINE)) == 2
    assert "data:image/png;base64," in (out / "report.html").read_text()
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")
    # Four steps teach nothing, and the report must say so.
    assert told["conclusions"][0].startswith("NO CONCLUSION")
    assert told["release"]["content_sha256"]
    assert told["arms"]["balanced"]["synthetic"] == 12
    # Pooled over tiles and averaged over seeds, as segmenter.scores does it for one of them.
    confusion = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    constant = int(bench.rows.shares[bench.rows.real].mean(0).argmax())
    confusion[:, constant] = bench.test.pixels.sum(0)
    wanted = segmenter.scores(confusion)
    floor = told["analysis"]["arms"]["constant"]
    assert floor["macro F1"]["value"] / 100 == pytest.approx(wanted.macro_f1, abs=1e-4)
    assert floor["accuracy"]["value"] / 100 == pytest.approx(wanted.accuracy, abs=1e-4)
    assert floor["mean IoU"]["value"] / 100 == pytest.approx(wanted.mean_iou, abs=1e-4)


def test_the_presets_are_settings():
    assert augmentation.PRESETS["small"].steps < augmentation.PRESETS["cpu"].steps
