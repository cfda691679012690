"""What both experiments share: runs by arm and seed, interrupted and resumed, and the report."""

import json
import pickle
from dataclasses import replace

import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError, WorkFailed
from builder.experiments import augmentation, imbalance, imbalance_report
from builder.experiments.statistics import Analysis
from builder.models import retriever, segmenter
from tests.makers.bench_release import bench_release
from tests.makers.experiments import TINY_RETRIEVER, TINY_SEGMENTER, experiment_on

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
    experiment = experiment_on(name, release, tmp_path_factory.mktemp("out"))
    experiment.run_all(Engine("serial"))
    return experiment


@pytest.fixture(scope="module")
def report(done, name):
    return REPORTS[name](done.bench, done.records())


def test_every_arm_is_run_with_every_seed_for_equal_steps(done):
    arms = done.records()
    assert list(arms) == list(done.bench.arms)
    for arm, records in arms.items():
        assert [(record.arm, record.seed) for record in records] == [(arm, 0), (arm, 1)]
        assert {record.settings["steps"] for record in records} == {4}
    assert not list((done.out / "runs").glob("*/"))


def test_a_run_repeated_elsewhere_gives_the_same_judgement(done, tmp_path):
    again = replace(done, out=tmp_path).run(("synthetic", 1)).as_json()
    first = done.read(("synthetic", 1)).as_json()
    cost = ("libraries", "seconds", "cpu_seconds")
    for name in first.keys() - set(cost):
        assert json.loads(json.dumps(again[name])) == first[name]
    assert list(again)[-3:] == list(cost)
    assert first["loss"] != done.read(("real", 0)).as_json()["loss"]


def test_finished_runs_are_kept_and_others_resumed(release, name, tmp_path, monkeypatch):
    module, trainer = TRAINERS[name]
    train, trained = getattr(module, trainer), []

    def fails_once(folder, *arguments, **options):
        trained.append(folder.name)
        if len(trained) == 3:
            raise WorkFailed("power cut")
        return train(folder, *arguments, **options)

    monkeypatch.setattr(module, trainer, fails_once)
    experiment = experiment_on(name, release, tmp_path)
    runs = len(experiment.trials)
    with pytest.raises(WorkFailed, match=rf"(?s)1 of {runs} runs failed.*power cut"):
        experiment.run_all(Engine("serial"))
    assert len(trained) == runs
    with pytest.raises(WorkFailed, match="has no record of seed"):
        experiment.records()
    experiment.run_all(Engine("serial"))
    assert trained[runs:] == [trained[2]]
    experiment.run_all(Engine("serial"))
    assert len(trained) == runs + 1


def test_records_are_read_as_they_were_written(done):
    for trial in done.trials:
        written = json.loads(done.path(trial).read_text())
        assert list(done.read(trial).as_json().items()) == list(written.items())
        assert list(written)[:4] == ["kind", "key", "arm", "seed"]


def test_other_settings_make_other_runs(done, release, name):
    tiny = {"augmentation": TINY_SEGMENTER, "imbalance": TINY_RETRIEVER}[name]
    longer = experiment_on(name, release, done.out, replace(tiny, steps=5))
    assert done.read(("real", 0)) is not None
    assert longer.read(("real", 0)) is None


def test_a_worker_gets_the_experiment_without_its_rows(done):
    assert len(done.bench.rows.ids) == 36
    packed = pickle.dumps(done)
    assert len(packed) < 2_000
    assert pickle.loads(packed).trials == done.trials


def test_one_seed_is_not_enough(release, name, tmp_path):
    experiment = replace(experiment_on(name, release, tmp_path), seeds=1)
    with pytest.raises(ArasError, match="seeds is below 2"):
        experiment.run_all(Engine("serial"))


def test_the_report_says_what_can_and_cannot_be_concluded(done, report):
    out = done.out
    report.write(out)
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
    read = Analysis.model_validate(written)
    assert read == report.analysis
    assert json.dumps(read.as_json()) == json.dumps(written)


def test_records_without_processor_time_are_still_reported(report):
    older = {
        arm: [record.plus(cpu_seconds=None) for record in runs]
        for arm, runs in report.records.items()
    }
    report = replace(report, records=older)
    assert report.as_json()["cpu_seconds"] is None
    assert "an unrecorded amount of processor time" in report.document().markdown()


def test_the_presets_are_settings(name):
    presets = DECLARED[name].PRESETS
    assert presets["small"].steps < presets["cpu"].steps
