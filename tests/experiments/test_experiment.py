"""What both experiments share: runs by arm and seed, interrupted and resumed, and the report."""

import json
from dataclasses import replace

import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError, WorkFailed
from builder.experiments import augmentation, imbalance, imbalance_report
from builder.experiments.experiment import (
    Record,
    read_record,
    record_path,
    run_all,
    run_trial,
    trials,
)
from builder.experiments.statistics import Analysis
from builder.models import retriever, segmenter
from tests.makers.bench_release import bench_release
from tests.makers.experiments import experiment_on

DECLARED = {"augmentation": augmentation, "imbalance": imbalance}
REPORTS = {"augmentation": augmentation.report_of, "imbalance": imbalance_report.report_of}
TRAINERS = {
    "augmentation": (segmenter, "train_tiles"),
    "imbalance": (retriever, "train_pairs"),
}


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return bench_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module", params=sorted(DECLARED))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def done(release, name, tmp_path_factory):
    bench = DECLARED[name].Bench(experiment_on(name, release, tmp_path_factory.mktemp("out")))
    return bench, run_all(bench, Engine("serial"))


@pytest.fixture(scope="module")
def report(done, name):
    return REPORTS[name](*done)


def test_every_arm_is_run_with_every_seed_for_equal_steps(done):
    bench, records = done
    assert [(record.arm, record.seed) for record in records] == trials(bench)
    assert len(records) == 2 * len(bench.arms)
    assert {record.outcome.settings["steps"] for record in records} == {4}
    assert not list((bench.experiment.out / "runs").glob("*/"))


def test_a_run_repeated_elsewhere_gives_the_same_judgement(done, tmp_path):
    bench, records = done
    elsewhere = type(bench)(replace(bench.experiment, out=tmp_path))
    again = run_trial(elsewhere, ("synthetic", 1))
    first = next(record for record in records if (record.arm, record.seed) == ("synthetic", 1))
    assert again.key == first.key
    assert again.outcome.loss == first.outcome.loss
    assert again.outcome.judgement.as_json() == first.outcome.judgement.as_json()
    assert first.outcome.loss != records[0].outcome.loss


def test_finished_runs_are_kept_and_others_resumed(release, name, tmp_path, monkeypatch):
    module, trainer = TRAINERS[name]
    train, trained = getattr(module, trainer), []

    def fails_once(folder, *arguments, **options):
        trained.append(folder.name)
        if len(trained) == 3:
            raise WorkFailed("power cut")
        return train(folder, *arguments, **options)

    monkeypatch.setattr(module, trainer, fails_once)
    bench = DECLARED[name].Bench(experiment_on(name, release, tmp_path))
    runs = len(trials(bench))
    with pytest.raises(WorkFailed, match=rf"(?s)1 of {runs} runs failed.*power cut"):
        run_all(bench, Engine("serial"))
    assert len(trained) == runs
    records = run_all(bench, Engine("serial"))
    assert trained[runs:] == [trained[2]]
    again = run_all(bench, Engine("serial"))
    assert len(trained) == runs + 1
    assert [r.as_json() for r in again] == [r.as_json() for r in records]


def test_records_are_read_as_they_were_written(done):
    bench, records = done
    for trial, record in zip(trials(bench), records, strict=True):
        written = json.loads(record_path(bench, trial).read_text())
        assert list(record.as_json().items()) == list(written.items())
        assert list(written)[:4] == ["kind", "key", "arm", "seed"]
        assert Record.from_json(written, bench.judgement).as_json() == written


def test_other_settings_make_other_runs(done):
    bench, _ = done
    steps = replace(bench.experiment.settings, steps=5)
    longer = type(bench)(replace(bench.experiment, settings=steps))
    assert read_record(bench, ("real", 0)) is not None
    assert read_record(longer, ("real", 0)) is None


def test_one_seed_is_not_enough(release, name, tmp_path):
    bench = DECLARED[name].Bench(replace(experiment_on(name, release, tmp_path), seeds=1))
    with pytest.raises(ArasError, match="seeds is below 2"):
        run_all(bench, Engine("serial"))


def test_arms_that_lack_a_seed_are_not_reported(done, name):
    bench, records = done
    with pytest.raises(WorkFailed, match="different numbers of seeds"):
        REPORTS[name](bench, records[:-1])


def test_the_report_says_what_can_and_cannot_be_concluded(done, report):
    bench, _ = done
    report.write()
    out = bench.experiment.out
    written = json.loads((out / "report.json").read_text())
    assert written["conclusions"] == report.conclusions
    assert written["release"]["content_sha256"]
    # Four steps teach nothing, and the report must say so first.
    assert report.conclusions[0].startswith("NO CONCLUSION")
    text, page = (out / "report.md").read_text(), (out / "report.html").read_text()
    places = [
        text.index(words)
        for words in (
            "## What can be concluded",
            report.conclusions[0],
            "## What cannot",
            "## Contrasts",
            report.sentences[0],
            "## Arms",
        )
    ]
    assert places == sorted(places)
    assert "| real |" in text
    assert "<td>real</td>" in page
    assert report.conclusions[0] in page
    assert page.count("data:image/png;base64,") == len(report.plots)
    for plot in report.plots:
        assert (out / plot).read_bytes().startswith(b"\x89PNG")
    assert written["cpu_seconds"] > 0
    assert f"{written['cpu_seconds']:,.0f} s of processor time" in text


def test_the_analysis_in_a_report_is_read_as_it_was_written(report):
    written = json.loads(json.dumps(report.as_json()))["analysis"]
    assert Analysis.from_json(written) == report.analysis


def test_records_without_processor_time_are_still_reported(report):
    older = {
        arm: [replace(record, cpu_seconds=None) for record in runs]
        for arm, runs in report.records.items()
    }
    report = replace(report, records=older)
    assert report.as_json()["cpu_seconds"] is None
    assert "an unrecorded amount of processor time" in report.document().markdown()


def test_the_presets_are_settings(name):
    presets = DECLARED[name].PRESETS
    assert presets["small"].steps < presets["cpu"].steps
