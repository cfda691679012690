"""Models, reports and releases reach every machine whole, whoever wrote them last."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.core.errors import ArasError
from builder.core.mirror import Mirror
from builder.core.objects import Objects
from tests.loopback import s3


@pytest.fixture(scope="module")
def server() -> Iterator[s3.S3]:
    with s3.serving() as running:
        yield running


@pytest.fixture(autouse=True)
def bucket(server: s3.S3, monkeypatch: pytest.MonkeyPatch) -> None:
    server.empty()
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


def machine(folder: Path) -> Mirror:
    return Mirror(Objects("s3://tiles/demo"), folder)


def train(mirror: Mirror, weights: str) -> Path:
    model = mirror.directory / "models/segmenter"
    (model / "samples").mkdir(parents=True, exist_ok=True)
    (model / "weights.bin").write_text(weights)
    (model / "samples/1.png").write_text(f"picture of {weights}")
    (model / "checkpoint.pt").write_text("half")
    (model / ".lock").touch()
    (model / "record.json").write_text(json.dumps({"weights": weights}))
    return model


def test_a_model_comes_whole_and_without_what_is_unfinished(tmp_path: Path) -> None:
    first, second = machine(tmp_path / "first"), machine(tmp_path / "second")
    first.keep_model(train(first, "a"))
    second.bring()
    brought = second.directory / "models/segmenter"
    names = {path.relative_to(brought).as_posix() for path in brought.rglob("*") if path.is_file()}
    assert names == {"weights.bin", "samples/1.png", "record.json"}
    assert (brought / "weights.bin").read_text() == "a"


def test_nothing_moves_twice(tmp_path: Path, server: s3.S3) -> None:
    first, second = machine(tmp_path / "first"), machine(tmp_path / "second")
    first.keep_model(train(first, "a"))
    second.bring()
    server.requests.clear()
    first.keep_model(first.directory / "models/segmenter")
    for mirror in (first, second):
        mirror.bring()
    assert {method for method, _ in server.requests} == {"LIST"}


def test_of_two_trainings_the_first_is_believed(tmp_path: Path) -> None:
    first, second = machine(tmp_path / "first"), machine(tmp_path / "second")
    first.bring()
    second.bring()
    first.keep_model(train(first, "a"))
    model = train(second, "b")
    second.keep_model(model)
    assert (model / "weights.bin").read_text() == "a"
    assert json.loads((model / "record.json").read_text()) == {"weights": "a"}


def test_a_new_training_replaces_the_one_that_it_knew(tmp_path: Path) -> None:
    first, second = machine(tmp_path / "first"), machine(tmp_path / "second")
    first.keep_model(train(first, "a"))
    second.bring()
    second.keep_model(train(second, "b"))
    first.bring()
    assert (first.directory / "models/segmenter/weights.bin").read_text() == "b"


@pytest.mark.parametrize("puts", range(5))
def test_a_machine_that_dies_while_it_sends_leaves_the_model_that_was_there(
    tmp_path: Path, server: s3.S3, puts: int
) -> None:
    first, second = machine(tmp_path / "first"), machine(tmp_path / "second")
    first.keep_model(train(first, "a"))
    model = train(first, "b")
    server.faults.append(s3.after(puts, lambda request: request.method == "PUT", s3.forbidden))
    with pytest.raises(ArasError):
        first.keep_model(model)
    server.faults.clear()
    second.bring()
    assert (second.directory / "models/segmenter/weights.bin").read_text() == "a"
    first.bring()  # what it knows is up to date: its own training stays
    first.keep_model(model)
    second.bring()
    assert (second.directory / "models/segmenter/weights.bin").read_text() == "b"


def test_a_model_that_comes_over_a_bad_line_is_not_whole_until_it_is_right(tmp_path: Path) -> None:
    first, second = machine(tmp_path / "first"), machine(tmp_path / "second")
    first.keep_model(train(first, "a"))
    path = next(path for path, _ in first.objects.list("models") if path.endswith("weights.bin"))
    first.objects.overwrite(path, b"spoilt")
    with pytest.raises(ArasError, match=r"weights\.bin: not what files\.json beside it says"):
        second.bring()
    assert not (second.directory / "models/segmenter/record.json").exists()


def test_reports_of_other_machines_come(tmp_path: Path) -> None:
    first, second = machine(tmp_path / "first"), machine(tmp_path / "second")
    (first.directory / "reports").mkdir(parents=True)
    (first.directory / "reports/tiles.json").write_text('{"made": 3}')
    first.keep_report("tiles")
    second.bring()
    assert json.loads((second.directory / "reports/tiles.json").read_text()) == {"made": 3}


def test_a_release_is_sent_whole_and_its_manifest_last(tmp_path: Path, server: s3.S3) -> None:
    mirror = machine(tmp_path)
    release = tmp_path / "release/0.1.0"
    for name in ("manifest.json", "real/test-0.parquet", ".zenodo.json", "README.md"):
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_text(name)
    server.requests.clear()
    mirror.keep_release(release)
    sent = [path for method, path in server.requests if method == "PUT"]
    assert set(sent) == {
        f"demo/release/0.1.0/{name}"
        for name in ("manifest.json", "real/test-0.parquet", ".zenodo.json", "README.md")
    }
    assert sent[-1] == "demo/release/0.1.0/manifest.json"
    server.requests.clear()
    mirror.keep_release(release)
    assert {method for method, _ in server.requests} == {"LIST"}


def test_a_release_that_was_sent_in_part_has_no_manifest_and_is_sent_on(
    tmp_path: Path, server: s3.S3
) -> None:
    mirror = machine(tmp_path)
    release = tmp_path / "release/0.1.0"
    release.mkdir(parents=True)
    for name in ("manifest.json", "a.parquet", "b.parquet", "c.parquet"):
        (release / name).write_text(name)
    mirror.keep_release(release)
    for name in ("manifest.json", "b.parquet", "c.parquet"):
        (release / name).write_text(f"new {name}")
    server.faults.append(s3.after(1, lambda request: request.method == "PUT", s3.forbidden))
    with pytest.raises(ArasError):
        mirror.keep_release(release)
    server.faults.clear()
    place = "release/0.1.0"
    assert mirror.objects.head(f"{place}/manifest.json") is None
    server.requests.clear()
    mirror.keep_release(release)
    sent = [path.rpartition("/")[2] for method, path in server.requests if method == "PUT"]
    assert sent == ["c.parquet", "manifest.json"]
    assert mirror.objects.get(f"{place}/manifest.json") == b"new manifest.json"
