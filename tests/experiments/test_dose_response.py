"""The dose–response experiment: its runs, its records, and what is concluded from them."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError
from builder.experiments import dose_report, dose_study
from builder.experiments.dose_analysis import Analysis, Fits, analyse, break_even, fit
from builder.experiments.dose_response import Bench, Hits, Material, Table, ranks_of, written
from builder.experiments.dose_run import forecast, run
from builder.experiments.dose_study import ArmFacts, DoseFacts, Facts, Study
from builder.experiments.experiment import Experiment
from builder.experiments.imbalance import SetFacts
from builder.experiments.validity import Validity
from tests.makers.labelled_tiles import small_mosaics

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "doses"
TABLE = {
    "training": {"steps": 3, "batch": 8},
    "controls": ["real", "repeated", "shuffled", "unrelated", "blurred", "again", "exposures"],
    "doses": {
        "oracle": {"kind": "held-out", "natural": [1.0], "alone": [1.0]},
        "labels-40": {"kind": "labels", "strength": 0.4},
        "copies": {"kind": "copies"},
        "blur": {"kind": "blur", "strength": 2.0, "ratios": [0.5, 1.0]},
    },
}


def table(encoder="convolutions", **changes) -> Table:
    training = {**TABLE["training"], "encoder": encoder}
    return Table.of({**TABLE, "training": training, **changes}, Path("doses.toml"))


def material(out: Path) -> Material:
    facts = SetFacts(name="tiles", version="1", content_sha256="0" * 64)
    return Material(facts, small_mosaics(), out)


def source(out: Path, declared: Table | None = None):
    return partial(Bench, partial(material, out), declared or table())


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    out = tmp_path_factory.mktemp("doses")
    return out, run(source(out), out, 2, Engine("serial", 1))


def test_every_arm_has_records_and_the_report_is_written(ran):
    out, analysis = ran
    arms = {path.name.rsplit("-seed", 1)[0] for path in (out / "runs").iterdir()}
    assert arms == set(analysis.arms)
    assert {"oracle-balanced-1", "oracle-natural-1", "oracle-alone-1", "blur-balanced-0.5"} <= arms
    assert (out / "report.html").read_text().count("data:image/png") == 1
    text = (out / "report.md").read_text()
    assert text.startswith("# To what extent does synthetic data made for class balance degrade")
    assert "A/A: the same arm with other seeds" in text
    kept = json.loads((out / "report.json").read_text())["convolutions"]
    assert kept == json.loads(json.dumps(analysis.as_json()))


def test_the_report_comes_out_of_the_records_alone(ran, tmp_path):
    out, analysis = ran
    for name in ("study.json", "runs.jsonl"):
        (tmp_path / "study").mkdir(exist_ok=True)
        shutil.copy(out / "convolutions" / name, tmp_path / "study" / name)
    again = analyse(dose_study.read(tmp_path / "study"))
    assert again == analysis


def test_nothing_is_trained_again_and_a_lost_record_alone_is(ran):
    out, _ = ran
    experiment = Experiment(source(out), out, 2)
    times = {path: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
    assert str(forecast(experiment, experiment.bench, out / "f")) == "every run has a record"
    lost = out / "runs" / "real-seed1.json"
    before = json.loads(lost.read_text())
    lost.unlink()
    assert forecast(experiment, experiment.bench, out / "f").runs == 1
    experiment.run_all(Engine("serial", 1))
    assert json.loads(lost.read_text())["ranks"] == before["ranks"]
    assert {p: p.stat().st_mtime_ns for p in times if p != lost} == {
        p: t for p, t in times.items() if p != lost
    }


def test_a_changed_dose_runs_its_own_arms_again(ran):
    out, _ = ran
    doses = {**TABLE["doses"], "labels-40": {"kind": "labels", "strength": 0.2}}
    mine = Experiment(source(out), out, 2)
    other = Experiment(source(out, table(doses=doses)), out, 2)
    assert mine.key(("real", 0)) == other.key(("real", 0))
    assert mine.key(("oracle-balanced-1", 0)) == other.key(("oracle-balanced-1", 0))
    assert mine.key(("labels-40-balanced-1", 0)) != other.key(("labels-40-balanced-1", 0))


def test_arms_hold_all_real_scenes_and_equal_numbers_of_tiles(tmp_path):
    bench = Bench(lambda: material(tmp_path), table())
    sets = {name: bench.set_of(name) for name in bench.arms}
    real = len(bench.real.texts)
    for name, given in sets.items():
        if name != "oracle-alone-1":
            assert set(range(real)) <= set(given.pool.tolist()), name
    distinct = {
        name: len(np.unique(sets[name].pictures.parts[1][1]))
        for name in ("oracle-balanced-1", "labels-40-balanced-1", "copies-balanced-1")
    }
    assert set(distinct.values()) == {40}
    same = [sets[f"{dose}-balanced-1"].texts for dose in ("oracle", "labels-40", "copies", "blur")]
    assert all(texts == same[0] for texts in same)
    assert len(sets["oracle-alone-1"].pool) == 20


def test_random_features_are_another_encoder_on_the_same_arms(tmp_path):
    bench = Bench(lambda: material(tmp_path), table("random"))
    first, again = (bench.train(("blur-balanced-1", 0), key, tmp_path / key) for key in "ab")
    assert first.ranks == again.ranks
    assert first.ranks != bench.train(("blur-balanced-1", 1), "c", tmp_path / "c").ranks


def test_ranks_count_what_comes_first_and_ties_against_us():
    bench_scores = np.eye(3)
    test = small_mosaics().test_scenes()
    shares = test.shares[:3]
    three = type(test)(test.tiles[:3], test.texts[:3], shares)
    assert ranks_of(bench_scores, np.eye(3), three, "S").tolist() == [[0, 0]] * 3
    assert ranks_of(np.ones((3, 1)), np.ones((3, 1)), three, "S").tolist() == [[2, 2]] * 3
    hits = Hits(ranks=written(np.array([[0, 10], [3, 7]])))
    assert hits.array().tolist() == [[0, 10], [3, 7]]


def simulated(slope: float, at: float, doses: int = 8, seeds: int = 4) -> Study:
    """A study whose doses gain ``slope`` points of recall per unit of agreement beyond ``at``."""
    rng = np.random.default_rng(0)
    agreement = np.linspace(0.2, 0.9, doses)
    names = [f"d{k}" for k in range(doses - 1)] + ["oracle"]
    gains = {
        f"{name}-balanced-1": slope * (a - at) for name, a in zip(names, agreement, strict=True)
    }
    arms = {"real": -5.0, "repeated": 0.0, "shuffled": -40.0, **gains}
    ease = rng.normal(0, 10, 400)
    runs = {}
    for name, gain in arms.items():
        chance = (50 + gain + ease[None] + rng.normal(0, 1, (seeds, 1)))[..., None] / 100
        runs[name] = np.where(rng.random((seeds, 400, 2)) < chance, 0, 10)
    noise = rng.random(doses)
    facts = Facts(
        name="simulated", content_sha256="0" * 64, protocol="S", training={"encoder": "random"},
        classes=("a", "b", "c"), train_tiles=(90, 40, 9), floor="shuffled",
        layouts=tuple("".join(row) for row in rng.choice(["0", "1", "2"], (400, 4))),
        arms={
            name: ArmFacts(
                what=name, dose=name.split("-")[0] if name in gains else "",
                shares="balanced" if name in gains else "", ratio=1.0 if name in gains else 0.0,
                scenes=1, distinct=1,
            )
            for name in arms
        },
        doses={
            names[k]: DoseFacts(
                kind="labels", family="wrong class", strength=0.0, keep=1.0,
                validity=Validity(
                    tiles=1, agreement=noise[k], agreement_random=a, discrimination=0.5,
                    frechet=1 + noise[k], frechet_random=2 - noise[k], coverage=noise[-k],
                    realism=noise[k] ** 2, transfer=noise[k - 3], copies=0.0,
                ),
            )
            for k, a in enumerate(agreement)
        },
    )  # fmt: skip
    return Study(facts, runs, 0.0)


def test_a_known_break_even_is_recovered():
    study = simulated(50, 0.5)
    line = break_even(Fits(study), "agreement_random", "mR")
    assert line.slope == pytest.approx(50, abs=8)
    low, high = line.interval
    assert low < 0.5 < high
    assert high - low < 0.2
    assert line.value == pytest.approx(0.5, abs=0.05)


def test_the_measure_that_decides_is_found_and_the_rule_is_right():
    analysis = analyse(simulated(50, 0.5), draws=200)
    assert analysis.measure == "agreement_random"
    best = next(p for p in analysis.predictions if (p.name, p.figure) == ("agreement_random", "mR"))
    assert best.explained > 0.9
    clear = [c for c in analysis.choices if not c.interval[0] < 0 < c.interval[1]]
    assert len(clear) >= 4
    assert all(choice.right for choice in clear)


def test_the_answer_gives_the_figures_of_the_analysis():
    analysis = analyse(simulated(50, 0.5), draws=200)
    lines = dose_report.answer(analysis, [analysis])
    line = next(b for b in analysis.break_even if b.measure == "agreement_random")
    assert f"cost {line.slope / 10:.1f} points of mean recall" in lines[1]
    assert f"at an agreement of {line.value:.2f}" in lines[1]
    assert lines[0].startswith("With perfect tiles")
    blind = analysis.model_copy(update={"learnt": False})
    assert [text[:13] for text in dose_report.answer(blind, [])] == ["NO CONCLUSION"]


def test_a_dose_that_checks_moves_no_fit():
    study = simulated(50, 0.5)
    doses = {**study.facts.doses}
    doses["d3"] = doses["d3"].model_copy(update={"check": True})
    facts = study.facts.model_copy(update={"doses": doses})
    analysis = analyse(Study(facts, study.runs, 0.0), draws=200)
    assert [choice.dose for choice in analysis.checked] == ["d3"]
    assert "d3" not in {choice.dose for choice in analysis.choices}
    without = {arm: ranks for arm, ranks in study.runs.items() if not arm.startswith("d3")}
    other = analyse(Study(study.facts, without, 0.0), draws=200)
    assert [line.value for line in other.break_even] == [line.value for line in analysis.break_even]


def test_without_an_effect_nothing_is_explained():
    analysis = analyse(simulated(0, 0.5), draws=200)
    best = next(p for p in analysis.predictions if (p.name, p.figure) == ("agreement_random", "mR"))
    assert best.explained < 0.6
    assert sum(effect.repeated["mR"].p_holm < 0.05 for effect in analysis.effects) <= 1


def test_weighted_least_squares_agrees_with_repeated_rows():
    rng = np.random.default_rng(0)
    x, y = rng.random((6, 2)), rng.random(6)
    times = np.array([2, 0, 1, 3, 1, 1])
    rows = np.repeat(np.arange(6), times)
    direct = np.linalg.lstsq(np.column_stack([np.ones(len(rows)), x[rows]]), y[rows], rcond=None)
    np.testing.assert_allclose(fit(x, y, times.astype(float)), direct[0], atol=1e-6)


def test_tables_and_records_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "doses.toml"
    path.write_text('[doses.x]\nkind = "nonsense"\n')
    with pytest.raises(ArasError, match=r"doses\.toml: doses\.x\.kind"):
        Table.read(path)
    path.write_text("[doses")
    with pytest.raises(ArasError, match=r"doses\.toml"):
        Table.read(path)
    with pytest.raises(ArasError, match="not the records"):
        dose_study.read(tmp_path)
    with pytest.raises(ArasError, match="'lnger' is not one of"):
        Bench(lambda: material(tmp_path), table(controls=["real", "lnger"]))
    own = Bench(lambda: material(tmp_path), table(doses={"own": {"kind": "release"}}))
    with pytest.raises(ArasError, match="no release to take tiles from"):
        own.set_of("own-balanced-1")


@pytest.mark.skipif(not (RESULTS / "studies.txt").exists(), reason="no committed records")
def test_the_published_figures_come_out_of_the_published_records():
    kept = json.loads((RESULTS / "report.json").read_text())
    names = (RESULTS / "studies.txt").read_text().split()
    assert list(kept) == names
    studies = {name: dose_study.read(RESULTS / name) for name in names}
    analyses = {name: analyse(study) for name, study in studies.items()}
    for name, analysis in analyses.items():
        close(json.loads(json.dumps(analysis.as_json())), kept[name])
    main, *others = names
    lines = dose_report.answer(analyses[main], [analyses[name] for name in others])
    text = (RESULTS / "report.md").read_text()
    assert all(line in text for line in lines)
    assert isinstance(Analysis.model_validate(kept[main]), Analysis)


def close(ours, theirs):
    """Equal but for rounding of floating-point sums on another machine."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for name in ours:
            close(ours[name], theirs[name])
    elif isinstance(ours, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            close(a, b)
    elif isinstance(ours, float):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    else:
        assert ours == theirs
