"""The imbalance experiment: how a retriever is judged, and what its report holds."""

import json
from dataclasses import replace

import numpy as np
import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.experiments import imbalance
from builder.experiments.imbalance import Design, release_material
from builder.experiments.imbalance_report import (
    COMPARED,
    RECALLS,
    Groups,
    analyse,
    conclusions,
    counts,
    figures,
    report_of,
)
from builder.experiments.rows import Arm
from builder.land.classes import CLASSES
from builder.models import clip
from builder.retrieval import benchmark, gallery, metrics
from builder.retrieval.benchmark import Model
from builder.retrieval.ranks import Ranks
from tests.makers.bench_release import SIZE, bench_release
from tests.makers.experiments import TINY_RETRIEVER, experiment_on

DOMINANT = np.array([0] * 8 + [1] * 8 + [2] * 4)
TRAIN = np.array([0] * 50 + [1] * 40 + [2] * 10)
GROUPS = Groups.of(TRAIN)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return bench_release(tmp_path_factory.mktemp("release"))


def test_the_report_and_the_ranks_beside_it_hold_every_run(release, tmp_path):
    experiment = experiment_on("imbalance", release, tmp_path)
    arms = experiment.run_all(Engine("serial"))
    records = [record for runs in arms.values() for record in runs]
    assert {record.settings["stream"] for record in records} == {"numbers"}
    report = report_of(experiment.bench, arms)
    report.write(tmp_path)
    # Four steps teach nothing, and the report must say so and no more.
    (conclusion,) = report.conclusions
    assert conclusion.startswith("NO CONCLUSION")
    with np.load(tmp_path / "ranks.npz") as kept:
        for record in records:
            for protocol, pair in record.ranks.items():
                for way, ranks in zip(("t2i", "i2t"), pair, strict=True):
                    where = f"{record.arm}/{record.seed}/{protocol}/{way}"
                    assert len(ranks.above) == 10
                    np.testing.assert_array_equal(kept[f"{where}/above"], ranks.above)
                    np.testing.assert_array_equal(kept[f"{where}/level"], ranks.level)
    recalls = [record.figures["S"]["mR"] for record in arms["real"]]
    assert report.analysis.arms["real"]["mR"].value == pytest.approx(np.mean(recalls))


def test_given_weights_are_judged_untrained_and_go_into_every_arm(release, tmp_path):
    weights = tmp_path / "clip"
    texts = imbalance.load(release, "numbers").texts
    clip.start(TINY_RETRIEVER, texts).save(weights)
    settings = replace(TINY_RETRIEVER, weights=str(weights), steps=1)
    experiment = experiment_on("imbalance", release, tmp_path, settings, str(weights))
    untrained = experiment.trials[0]
    assert untrained == (imbalance.ZERO_SHOT, 0)
    bare = experiment.run(untrained)
    assert bare.model["name"] == "clip"
    assert experiment.read(untrained).as_json() == bare.as_json()
    scored = benchmark.run(gallery.load(release), Model(str(weights)), ["numbers"])
    strict = scored.result.streams["numbers"].S
    for way in ("t2i", "i2t"):
        for key, value in getattr(strict, way).items():
            assert bare.figures["S"][way][key] == pytest.approx(value)
    trained = experiment.run(("real", 0))
    assert trained.settings["weights"]["name"] == "clip"
    assert str(tmp_path) not in json.dumps(trained.as_json())
    assert trained.as_json()["ranks"] != bare.as_json()["ranks"]
    key = experiment.key(("real", 0))
    clip.start(replace(TINY_RETRIEVER, seed=1), texts).save(weights)
    assert experiment.key(("real", 0)) != key


def test_test_tiles_near_train_tiles_are_refused(tmp_path):
    near = bench_release(tmp_path, test_west=30.0 + 24 * SIZE * 1e-4)
    with pytest.raises(ArasError, match="nearer than 1 km"):
        release_material(near, "numbers")
    assert len(release_material(near, "numbers", near="leave-out").test.ids) == 6


def ranks(above):
    above = np.asarray(above, dtype=np.int64)
    return Ranks(above, np.zeros_like(above), np.full(len(above), len(above) - 1))


def test_chance_is_what_a_random_order_earns():
    def level(negatives):
        zero = np.zeros(10, dtype=np.int64)
        return Ranks(zero, zero, np.full(10, negatives))

    assert metrics.chance(level(9), level(9), 10, 10).mR == pytest.approx(100 * (0.1 + 0.5 + 1) / 3)
    missed = 7 * 6 * 5 * 4 * 3 / (10 * 9 * 8 * 7 * 6)
    three = metrics.chance(level(7), level(7), 10, 10).mR
    assert three == pytest.approx(100 * (0.3 + 1 - missed + 1) / 3)


def test_figures_of_a_case_worked_by_hand():
    t2i = np.array([0] * 8 + [4] * 8 + [19] * 4)
    i2t = np.array([0] * 10 + [19] * 10)
    parts = counts((ranks(t2i), ranks(i2t)), DOMINANT, GROUPS)
    names = (*RECALLS, *COMPARED, *CLASSES)
    values = dict(zip(names, figures(parts.sum(0)[None], GROUPS)[0], strict=True))
    assert values["t2i R@1"] == 40
    assert values["t2i R@5"] == 80
    assert values["i2t R@10"] == 50
    assert values["mR"] == pytest.approx((40 + 80 + 80 + 50 * 3) / 6)
    assert values["head"] == pytest.approx((100 + 100 + 100 + 25) / 4)
    assert values["tail"] == 0


def test_a_group_without_test_tiles_has_no_figure():
    groups = Groups(CLASSES, ["Tree"], ["Water"])
    parts = counts((ranks([0, 0]), ranks([0, 0])), np.array([0, 0]), groups)
    values = figures(parts.sum(0)[None], groups)[0]
    assert values[7] == 100
    assert np.isnan(values[8])


def noisy(rate, seed):
    """A pair in which the right answer comes first with probability ``rate``, else last."""
    rng = np.random.default_rng(seed)
    return tuple(ranks(np.where(rng.random(20) < rate, 0, 19)) for _ in range(2))


def arms(**rates):
    return {
        name.replace("_", "-"): [noisy(rate, 10 * n + seed) for seed in range(3)]
        for n, (name, rate) in enumerate(rates.items())
    }


def analysed(pairs, blocks=None, ratios=(1.0,)):
    factors = [{"kind": "balanced", "ratio": ratio} for ratio in ratios]
    mixed = {f"balanced-{f['ratio']:g}": Arm("", np.array([]), factors=f) for f in factors}
    design = Design(mixed, ratios[0] if ratios else 1.0)
    return analyse(pairs, DOMINANT, blocks, GROUPS, design)


def test_a_large_difference_is_established_and_none_is_not():
    analysis = analysed(arms(real=0.5, shuffled=0.0, balanced_1=1.0, oversampled=0.5))
    gain = analysis.contrast("balanced-1", "real")["mR"]
    assert gain.interval[0] > 20
    assert gain.sign == 1
    assert gain.p_holm < 0.05
    assert 0 < gain.low < gain.value
    assert gain.p_holm >= gain.p
    floor = analysis.contrast("real", "shuffled")["mR"]
    assert floor.p_holm == floor.p
    assert analysis.facts["tail"] == ["Grass"]
    assert analysis.facts["test_tiles"]["Grass"] == 4
    same = analysed(arms(real=0.5, shuffled=0.0, balanced_1=0.5))
    same = same.contrast("balanced-1", "real")["mR"]
    assert same.sign == 0
    assert same.p_holm > 0.05
    assert same.detectable > abs(same.value)


def test_an_arm_of_one_run_stands_for_all_seeds():
    pairs = arms(real=0.9, shuffled=0.0) | {"zero-shot": [noisy(0.1, 5)]}
    analysis = analysed(pairs, ratios=())
    assert analysis.contrast("real", "zero-shot")["mR"].value > 30
    assert len(set(analysis.arms["zero-shot"]["mR"].seeds)) == 1


def test_differences_are_given_by_class_and_by_ratio(release, tmp_path):
    never, always = (ranks(np.where(DOMINANT == 2, k, 19)) for k in (19, 0))  # Grass
    pairs = {"real": [(never, never)] * 2, "balanced-0.5": [(always, always)] * 2}
    pairs["shuffled"] = [(ranks([19] * 20),) * 2] * 2
    analysis = analysed(pairs, ratios=(0.5,))
    (gain,) = analysis.responses
    assert (gain.arm, gain["tail"].value) == ("balanced-0.5", 100)
    assert gain.as_json()["ratio"] == 0.5
    assert {name: estimate.value for name, estimate in gain.classes.items()} == {
        "Tree": 0, "Shrub": 0, "Grass": 100,
    }  # fmt: skip


def test_conclusions_name_the_classes_with_a_gain_and_a_loss(release, tmp_path):
    bench = experiment_on("imbalance", release, tmp_path).bench
    pairs = arms(real=0.5, shuffled=0.0, oversampled=0.5) | {"balanced-0.5": [noisy(1, 1)] * 3}
    analysis = analysed(pairs, ratios=(0.5,))
    lines = conclusions(analysis, bench)
    assert lines[0].startswith("Do class-balanced synthetic tiles help, by mR? yes: above real")
    assert any(line.startswith("Non-inferiority: balanced-0.5 is within 1 point") for line in lines)
    assert lines[-2].startswith("Classes with a gain")
    assert "Tree +" in lines[-2]
    assert lines[-1].endswith("none.")


def test_blocks_are_drawn_whole_and_fewer_than_five_allow_no_test(release, tmp_path):
    five, four = (np.arange(20) * count // 20 for count in (5, 4))
    pairs = arms(real=0.5, shuffled=0.0, balanced_1=0.9)
    analysis = analysed(pairs, five)
    assert (analysis.clusters.unit, analysis.clusters.number) == ("block", 5)
    assert analysis.contrast("balanced-1", "real")["mR"].p < 1
    few = analysed(pairs, four)
    untested = few.contrast("balanced-1", "real")
    assert untested["mR"].interval is None
    assert untested["mR"].value > 20
    assert list(untested.tested) == ["mR", "tail"]
    assert not any(hasattr(value, "detectable") for value in untested.tested.values())
    bench = experiment_on("imbalance", release, tmp_path).bench
    assert conclusions(few, bench)[0].startswith("NO CONCLUSION can be drawn from 4 blocks")


def test_contrasts_are_those_of_the_arms_that_exist():
    analysis = analysed(arms(real=0.5, synthetic=0.5, balanced_0=0.5))
    assert [(c.ours, c.theirs) for c in analysis.contrasts] == [("synthetic", "real")]
