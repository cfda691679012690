"""The imbalance experiment from end to end on a tiny release, interrupted and resumed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError, WorkFailed
from builder.experiments import imbalance, imbalance_report
from builder.experiments.imbalance import Bench, Experiment, ReleaseSource, ranks_of, run
from builder.experiments.words import detectable_cell, p_cell, verdict
from builder.models import clip, retriever
from builder.models.compact_clip import Settings
from builder.retrieval import benchmark, gallery
from builder.retrieval.benchmark import Model
from builder.retrieval.ranks import Ranks
from tests.makers.bench_release import SIZE, bench_release

TINY = Settings(
    stream="numbers",
    steps=4,
    batch=8,
    size=16,
    patch=8,
    width=32,
    layers=1,
    text_layers=1,
    projection=8,
    tokens=24,
    vocabulary=320,
)


EMPTY = "no test tile has these classes"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return bench_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def done(release, tmp_path_factory):
    experiment = Experiment(
        ReleaseSource(release, "numbers"), tmp_path_factory.mktemp("out"), TINY, (0.5,), seeds=2
    )
    return run(experiment, Engine("serial"))


def test_every_arm_is_run_with_every_seed_for_equal_steps(done):
    bench, records = done
    assert [(one["arm"], one["seed"]) for one in records] == bench.trials
    assert {one["settings"]["steps"] for one in records} == {4}
    assert {one["settings"]["stream"] for one in records} == {"numbers"}
    assert {len(one["ranks"][p]["t2i"]["above"]) for one in records for p in "SC"} == {10}
    assert not list((bench.experiment.out / "runs").glob("*/"))


def test_a_run_repeated_elsewhere_gives_the_same_ranks(done, tmp_path):
    bench, records = done
    again = Bench(replace(bench.experiment, out=tmp_path)).run(("real", 1))
    first = next(one for one in records if (one["arm"], one["seed"]) == ("real", 1))
    for name in ("key", "loss", "ranks", "figures"):
        assert again[name] == first[name]
    assert first["loss"] != records[0]["loss"]


def test_finished_runs_are_kept_and_others_resumed(release, tmp_path, monkeypatch):
    experiment = Experiment(ReleaseSource(release, "numbers"), tmp_path, TINY, (0.5,), seeds=2)
    real = retriever.train_pairs
    trained = []

    def fails_once(folder, *arguments, **options):
        trained.append(folder.name)
        if len(trained) == 3:
            raise WorkFailed("power cut")
        return real(folder, *arguments, **options)

    monkeypatch.setattr(retriever, "train_pairs", fails_once)
    with pytest.raises(WorkFailed, match=r"(?s)1 of \d+ runs failed.*power cut"):
        run(experiment, Engine("serial"))
    failed = trained[2]
    trained[:] = ["", "", ""]
    _, records = run(experiment, Engine("serial"))
    assert trained[3:] == [failed]
    trained[:] = ["", "", ""]
    _, again = run(experiment, Engine("serial"))
    assert trained[3:] == []
    assert again == records


def test_other_settings_make_other_runs(done):
    bench, _ = done
    more = replace(bench.experiment, settings=replace(TINY, steps=5))
    assert Bench(bench.experiment).record(("real", 0)) is not None
    assert Bench(more).record(("real", 0)) is None


def test_the_report_says_what_can_and_cannot_be_concluded(done):
    bench, records = done
    told = imbalance_report.write(bench, records)
    out = bench.experiment.out
    assert json.loads((out / "report.json").read_text())["conclusions"] == told["conclusions"]
    text = (out / "report.md").read_text()
    assert text.index("## What can be concluded") < text.index("## What cannot")
    assert "| real |" in text
    for name in ("arms.png", "ratios.png", "classes.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    with np.load(out / "ranks.npz") as kept:
        for one in records:
            for way, pair in zip(("t2i", "i2t"), ranks_of(one), strict=True):
                where = f"{one['arm']}/{one['seed']}/S/{way}"
                np.testing.assert_array_equal(kept[f"{where}/above"], pair.above)
                np.testing.assert_array_equal(kept[f"{where}/level"], pair.level)
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "<td>real</td>" in page
    assert told["conclusions"][0] in page
    # Four steps teach nothing, and the report must say so and no more.
    (only,) = told["conclusions"]
    assert only.startswith("NO CONCLUSION")
    assert text.index("## Contrasts") < text.index(told["contrasts_in_words"][0])
    assert told["cpu_seconds"] > 0
    assert f"{told['cpu_seconds']:,.0f} s of processor time" in text
    assert told["release"]["content_sha256"]
    figures = told["analysis"]["arms"]["real"]["mR"]
    mean = np.mean([one["figures"]["S"]["mR"] for one in records if one["arm"] == "real"])
    assert figures["value"] == pytest.approx(mean)


def test_chance_is_what_a_random_order_earns():
    def ranks(negatives):
        zero = np.zeros(10, dtype=np.int64)
        return Ranks(zero, zero, np.full(10, negatives))

    one, three = (ranks(9), ranks(9)), (ranks(7), ranks(7))
    assert imbalance_report.chance(one) == pytest.approx(100 * (0.1 + 0.5 + 1) / 3)
    missed = 7 * 6 * 5 * 4 * 3 / (10 * 9 * 8 * 7 * 6)
    assert imbalance_report.chance(three) == pytest.approx(100 * (0.3 + 1 - missed + 1) / 3)


def test_given_weights_are_judged_untrained_and_go_into_every_arm(release, tmp_path):
    weights = tmp_path / "clip"
    source = ReleaseSource(release, "numbers")
    clip.start(TINY, source.load().rows.texts).save(weights)
    settings = replace(TINY, weights=str(weights), steps=1)
    bench = Bench(Experiment(source, tmp_path, settings, (0.5,), 2, zero_shot=str(weights)))
    assert bench.trials[0] == (imbalance.ZERO_SHOT, 0)
    bare = bench.run(bench.trials[0])
    assert bare["model"]["name"] == "clip"
    assert bench.record(bench.trials[0]) == bare
    scored = benchmark.run(gallery.load(release), Model(str(weights)), ["numbers"])
    strict = scored.result.streams["numbers"].S
    for way in ("t2i", "i2t"):
        for key, value in getattr(strict, way).items():
            assert bare["figures"]["S"][way][key] == pytest.approx(value)
    trained = bench.run(("real", 0))
    assert trained["settings"]["weights"]["name"] == "clip"
    assert str(tmp_path) not in json.dumps(trained)
    assert trained["ranks"] != bare["ranks"]
    key = bench.key(("real", 0))
    clip.start(replace(TINY, seed=1), source.load().rows.texts).save(weights)
    assert bench.key(("real", 0)) != key


def test_a_gain_and_a_loss_are_named_as_such():
    found = {"difference": 2.0, "interval": [1.0, 3.0], "p_holm": 0.01, "detectable": 1.5,
             "cluster_sd": 1.0, "seed_sd": 0.1}  # fmt: skip
    assert verdict(found, EMPTY).endswith("a gain")
    assert verdict({**found, "difference": -2.0}, EMPTY).endswith("a loss")
    unsure = verdict({**found, "p_holm": 0.2}, EMPTY)
    assert "no difference established; one below 1.5 points" in unsure
    none = verdict({**found, "difference": None}, EMPTY)
    assert none == "no test tile has these classes; nothing can be said"


def test_small_p_values_and_hopeless_contrasts_are_said_as_such():
    found = {"difference": 2.0, "interval": [1.0, 3.0], "p_holm": 1e-5, "detectable": 1.5,
             "cluster_sd": 1.0, "seed_sd": 0.1}  # fmt: skip
    assert "p < 0.001): a gain" in verdict(found, EMPTY)
    hopeless = verdict({**found, "p_holm": 0.4, "detectable": 364.6}, EMPTY)
    assert hopeless.endswith("no difference established, and none could be, whatever its size")
    assert detectable_cell(364.6) == "none"
    assert (p_cell(0.0004), p_cell(0.25)) == ("< 0.001", "0.250")


def test_records_without_processor_time_are_still_reported(done):
    bench, records = done
    older = [{k: v for k, v in one.items() if k != "cpu_seconds"} for one in records]
    told = imbalance_report.write(bench, older)
    assert told["cpu_seconds"] is None
    assert (
        "an unrecorded amount of processor time" in (bench.experiment.out / "report.md").read_text()
    )


def test_test_tiles_near_train_tiles_are_refused(tmp_path):
    near = bench_release(tmp_path, test_west=30.0 + 24 * SIZE * 1e-4)
    with pytest.raises(ArasError, match="nearer than 1 km"):
        ReleaseSource(near, "numbers").load()
    assert len(ReleaseSource(near, "numbers", near="leave-out").load().test.ids) == 6


def test_one_seed_is_not_enough(release, tmp_path):
    with pytest.raises(ArasError, match="seeds is below 2"):
        run(
            Experiment(ReleaseSource(release, "numbers"), tmp_path, TINY, seeds=1), Engine("serial")
        )
