"""Steps run in order; what is damaged on disk is made again; what fails is named and kept."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.core.engine import Engine
from builder.core.errors import ArasError, NotMade, WorkFailed
from builder.core.store import CorruptShard, Store
from builder.models.record import Record, Trained
from builder.models.settings import PROFILES, SegmenterSettings
from builder.models.step import TrainingSummary
from builder.pipeline import run
from builder.pipeline.preview import preview
from builder.pipeline.project import Project, Training
from builder.pipeline.recipe import FILE
from builder.pipeline.run import run_steps
from builder.steps.plan import Summary
from builder.steps.stage import Scan, Stage
from builder.synthesis.generate import Generate
from builder.synthesis.layouts import Layouts
from builder.tiles.cut import Tiles
from tests.makers.official import official
from tests.makers.shards import damage, digests
from tests.makers.toy import Caption, Halves, Score, Source

STEPS = [Source(), Halves(), Caption(), Score()]


@dataclass(frozen=True)
class Reader(Training):
    """A training that reads every shard, and calls ``then``."""

    then: Callable[[], None] = lambda: None

    def stale(self, store: Store) -> bool:
        return True

    def run(self, store: Store) -> TrainingSummary:
        rows = sum(table.num_rows for _, table in store.scan(store.shards("tiles"), ["source"]))
        self.then()
        return TrainingSummary(self.name, Trained(Record(steps=rows), fresh=True), seconds=0)


def reader(then: Callable[[], None] = lambda: None) -> Reader:
    return Reader("segmenter", Path(), SegmenterSettings(), then)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / FILE).touch()
    return Project(tmp_path)


@pytest.fixture
def built(project: Project) -> Project:
    run_steps(project, STEPS, Engine())
    return project


@pytest.mark.parametrize("line", ["", 'mask = "segmenter"', 'condition = "none"'])
def test_a_stage_comes_after_those_that_make_its_columns(project: Project, line: str) -> None:
    recipe = f'[generator]\n{line}\n[captions.dominant]\nstyle = "dominant"\n'
    (project.directory / FILE).write_text(recipe)
    columns = {"real": set(Tiles.adds), "synthetic": set()}
    for stage in project.steps(with_tiles=False):
        if isinstance(stage, Stage):
            for kind in stage.kinds:
                assert set(stage.needs) <= columns[kind], stage.name
                columns[kind] |= set(stage.adds)
            for kind in stage.surveyed:
                assert set(stage.surveys) <= columns[kind], stage.name


def test_steps_run_in_order_and_each_is_told_of_and_reported(project: Project) -> None:
    heard: list[str] = []
    summaries = run_steps(
        project,
        [*STEPS[:2], reader(), *STEPS[2:]],
        Engine(),
        tell=lambda summary: heard.append(summary.stage),
        finish=lambda: Summary("package"),
    )
    names = ["tiles", "split", "train-segmenter", "caption-toy", "segment"]
    assert heard == names
    assert [summary.stage for summary in summaries] == [*names, "package"]
    for name, summary in zip(names, summaries, strict=False):
        path = project.directory / "reports" / f"{name}.json"
        assert json.loads(path.read_text()) == summary.as_json()


def test_a_failed_stage_stops_the_steps_after_it_and_names_its_shards(project: Project) -> None:
    bad = Source(troubles=(("real-00001", "fail"), ("real-00003", "fail")))
    with pytest.raises(WorkFailed) as error:
        run_steps(project, [bad, Halves()], Engine())
    assert str(error.value).splitlines() == [
        "tiles: 2 of 4 shards failed, the others are kept; the same command tries these again",
        "  real-00001: real-00001 was told to fail",
        "  real-00003: real-00003 was told to fail",
    ]
    assert error.value.exit_code == 1
    assert project.store.stages() == ["tiles"]
    assert project.store.shards("tiles") == ["real-00000", "real-00002"]
    report = json.loads((project.directory / "reports" / "tiles.json").read_text())
    assert report["failed"].keys() == {"real-00001", "real-00003"}


def test_shards_that_fail_for_one_reason_are_listed_together() -> None:
    summary = Summary("tiles", shards=9, failed={"a": "no", "b": "other", "c": "no"})
    assert run.failure(summary).splitlines()[1:] == ["  a, c: no", "  b: other"]


@pytest.mark.parametrize(
    "engine", [Engine(), Engine("processes", 2)], ids=lambda engine: engine.kind
)
def test_a_flipped_bit_that_only_reading_shows_is_mended_on_the_way(
    built: Project, engine: Engine
) -> None:
    before = digests(built.store)
    damage(built.store, "tiles/real-00002.parquet", "flipped, time kept")
    steps = [*STEPS[:2], Caption(word="spot"), STEPS[3]]
    summaries = run_steps(Project(built.directory), steps, engine)
    assert [summary.failed for summary in summaries] == [{}] * 4
    assert [summary.shards_made for summary in summaries] == [1, 0, 1, 4]  # tiles: the damaged one
    after = digests(built.store)
    assert {name for name in before if after[name] != before[name]} == {
        name for name in before if name.startswith(("caption-toy", "segment"))
    }


@pytest.mark.parametrize("how", ["truncated", "flipped", "flipped, time kept"])
def test_damage_is_mended_whoever_reads_it_first(built: Project, how: str) -> None:
    """A training, the survey of a stage, and what comes after all steps, such as package."""
    before = digests(built.store)

    def read_all() -> Summary:
        fresh = Store(built.store.root)
        for stage in fresh.stages():
            for shard in fresh.shards(stage):
                fresh.load(stage, shard)
        return Summary("package")

    for readers in (
        [*STEPS, reader()],
        [STEPS[0], Halves(margin=0.1), *STEPS[2:], Halves()],
        STEPS,
    ):
        damage(built.store, "tiles/real-00001.parquet", how)
        damage(built.store, "segment/real-00003.parquet", how)
        run_steps(Project(built.directory), readers, Engine(), finish=read_all)
        assert digests(built.store) == before


def test_a_damaged_shard_of_another_command_is_named_with_the_way_out(built: Project) -> None:
    damage(built.store, "tiles/real-00002.parquet", "flipped, time kept")
    message = r"work/tiles/real-00002\.parquet is corrupt .*; `aras build` makes it again"
    with pytest.raises(WorkFailed, match=message):
        run_steps(Project(built.directory), [Caption(word="spot")], Engine())
    assert built.store.shards("caption-toy") == built.store.shards("tiles")
    with pytest.raises(CorruptShard, match=message):  # known now, and said before any work
        run_steps(Project(built.directory), [Caption(word="spot")], Engine())
    summaries = run_steps(Project(built.directory), [STEPS[0], Caption(word="spot")], Engine())
    assert [summary.shards_made for summary in summaries] == [1, 1]


def test_a_disk_that_keeps_damaging_shards_ends_the_command(built: Project) -> None:
    def spoil() -> None:
        damage(built.store, "tiles/real-00000.parquet", "flipped, time kept")

    def finish() -> Summary:
        spoil()
        return Summary("package", rows=Store(built.store.root).load("tiles", "real-00000").num_rows)

    with pytest.raises(WorkFailed, match=r"are corrupt again.*work/tiles/real-00000"):
        run_steps(built, STEPS, Engine(), finish=finish)


def test_the_preview_tells_what_a_run_would_do_and_does_nothing(built: Project) -> None:
    before = digests(built.store)
    steps = [Source(shards=6), Caption(word="spot"), Missing(), reader()]
    lines = preview(built, steps)
    assert lines[0].as_json() == {"stage": "tiles", "shards": 6, "stale": 2}
    assert lines[1].as_json() == {"stage": "caption-toy", "waits_for": ["tiles"]}
    assert lines[2].todo.startswith("cannot be planned yet: shard real-00000 has no column crs")
    assert lines[3].as_json() == {"stage": "train-segmenter", "todo": "train"}
    assert digests(built.store) == before


def test_the_preview_of_a_fresh_project_says_what_waits_for_what(project: Project) -> None:
    lines = preview(project, [Source(), Caption(), Score(), Halves()])
    assert [line.waits_for for line in lines] == [
        (),
        ("tiles",),
        ("tiles", "caption-toy"),
        ("tiles",),
    ]
    run_steps(project, [Source(), Caption()], Engine())
    lines = preview(project, [Source(), Caption(), Score(), Halves()])
    assert [line.stale for line in lines] == [0, 0, 4, 4]


def test_in_parts_a_step_that_looks_at_all_shards_waits_for_the_others(project: Project) -> None:
    run_steps(project, [Source()], Engine())
    steps = [Caption(), Counted()]
    for i in (1, 2):
        summaries = run_steps(project, steps, Engine(), part=(i, 3))
        assert summaries[1].as_json() == {
            "kind": "waiting",
            "stage": "segment",
            "for": ["caption_toy"],
        }
    assert [
        summary.shards_made for summary in run_steps(project, steps, Engine(), part=(3, 3))
    ] == [1, 1]
    assert [summary.shards_made for summary in run_steps(project, steps, Engine())] == [0, 3]


def test_a_part_does_not_wait_for_what_no_step_of_the_command_makes(project: Project) -> None:
    run_steps(project, [Source()], Engine())
    with pytest.raises(NotMade, match="has no column caption_toy yet"):
        run_steps(project, [Counted()], Engine(), part=(1, 3))


class Counted(Score):
    """A score that looks at the captions of all shards first."""

    surveys = ("caption_toy",)

    def survey(self, scan: Scan) -> int:
        return sum(table.num_rows for _, table in scan(self.surveys))


class Missing(Score):
    needs = ("crs",)


def test_a_part_makes_its_own_shards_only(project: Project) -> None:
    summaries = run_steps(project, [Source()], Engine(), part=(2, 4))
    assert summaries[0].shards_made == 1
    assert project.store.shards("tiles") == ["real-00001"]


RECIPE = """
[dataset]
seed = 5
[tiles]
size = 64
[generator]
rows = {rows}
mask = "{mask}"
learning_rate = 0.5
[captions.one]
style = "layout"
[captions.two]
"""


def recipe(directory: Path, rows: int = 4, mask: str = "layout") -> Project:
    directory.joinpath(FILE).write_text(RECIPE.format(rows=rows, mask=mask))
    (directory / "inputs").mkdir(exist_ok=True)
    for name in ("a_Map.tif", "b_S2RGBNIR.tif"):
        directory.joinpath("inputs", name).touch()
    return Project(directory)


@pytest.mark.parametrize(
    ("rows", "mask", "names"),
    [
        (4, "layout", "train-segmenter train-generator layouts generate segment"),
        (4, "segmenter", "train-segmenter train-generator layouts generate label segment"),
        (0, "layout", "train-segmenter segment"),
    ],
)
def test_a_recipe_becomes_steps_of_which_each_finds_what_it_needs(
    tmp_path: Path, rows: int, mask: str, names: str
) -> None:
    steps = recipe(tmp_path, rows, mask).steps()
    wanted = ["tiles", "split", *names.split(), "caption-one", "caption-two"]
    assert [step.name for step in steps if step.name in wanted] == wanted
    columns: dict[str, set[str]] = {"real": set(), "synthetic": set()}
    for stage in (step for step in steps if isinstance(step, Stage)):
        for kind in stage.kinds if rows else {"real"} & set(stage.kinds):
            assert set(stage.needs) <= columns[kind], stage.name
            columns[kind] |= set(stage.adds)
        for kind in stage.surveyed if stage.surveys and rows else ():
            assert set(stage.surveys) <= columns[kind], stage.name


def test_settings_of_the_recipe_reach_the_steps(tmp_path: Path) -> None:
    project = recipe(tmp_path)
    assert project.tiles().size == 64
    assert {project.split().seed, project.captions()[0].seed, project.layouts().seed} == {5}
    assert [stage.ask.style for stage in project.captions()] == ["layout", "full"]
    settings = project.training("generator").settings
    assert (settings.seed, settings.learning_rate) == (5, 0.5)


def test_a_latent_generator_trains_its_autoencoder_unless_it_names_one(tmp_path: Path) -> None:
    project = recipe(tmp_path)
    plain = project.directory.joinpath(FILE).read_text()

    def trained(lines: str) -> list[str]:
        text = plain.replace("[generator]\n", f"[generator]\n{lines}\n")
        project.directory.joinpath(FILE).write_text(text)
        return [training.model for training in Project(tmp_path).trainings()]

    assert trained('kind = "pixel"') == ["segmenter", "generator"]
    assert trained('kind = "latent"') == ["segmenter", "autoencoder", "generator"]
    assert trained('kind = "latent"\nautoencoder = "own"') == ["segmenter", "generator"]
    assert Project(tmp_path).training("generator").settings.autoencoder == "own"
    assert trained('profile = "gpu"') == ["segmenter", "autoencoder", "generator"]
    assert trained('profile = "gpu"\nkind = "pixel"') == ["segmenter", "generator"]


def test_the_profile_decides_what_the_recipe_leaves_out(tmp_path: Path) -> None:
    project = recipe(tmp_path)
    text = project.directory.joinpath(FILE).read_text()
    lines = '[generator]\nprofile = "gpu"\nwidths = [32, 64]\nema = 0.9\ncompile = false\n'
    project.directory.joinpath(FILE).write_text(text.replace("[generator]\n", lines))
    project = Project(tmp_path)
    settings = project.training("generator").settings
    assert (settings.widths, settings.layers, settings.ema, settings.compile) == (
        (32, 64),
        2,
        0.9,
        False,
    )
    gpu = PROFILES["autoencoder"]["gpu"]  # as its generator's
    assert project.training("autoencoder").settings.widths == gpu.widths
    source, draw = project.synthesis()
    assert isinstance(source, Layouts)
    assert isinstance(draw, Generate)
    assert (source.shard_rows, draw.batch, draw.sampling_steps) == (256, 64, 25)
    assert (draw.compile, draw.channels_last) == (False, True)


def test_without_layouts_every_step_finds_what_it_needs(tmp_path: Path) -> None:
    project = recipe(tmp_path)
    text = project.directory.joinpath(FILE).read_text()
    project.directory.joinpath(FILE).write_text(
        text.replace("[generator]\n", '[generator]\ncondition = "none"\n')
    )
    project = Project(tmp_path)
    columns: dict[str, set[str]] = {"real": set(), "synthetic": set()}
    for stage in (step for step in project.steps() if isinstance(step, Stage)):
        for kind in stage.kinds:
            assert set(stage.needs) <= columns[kind], stage.name
            columns[kind] |= set(stage.adds)
    assert {"mask", "gen_mask", "pixels"} <= columns["synthetic"]
    assert "layout" not in columns["synthetic"]
    assert project.training("generator").settings.condition == "none"


def test_a_crop_is_never_larger_than_the_tiles(tmp_path: Path) -> None:
    assert recipe(tmp_path).training("segmenter").settings.crop == 64  # the profile says 128


def test_workers_get_absolute_paths_wherever_the_command_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    project = Project(Path())
    assert project.store.root == tmp_path / "work"
    assert project.models == tmp_path / "models"
    assert all(path.is_absolute() for path in project.tiles().maps)


def test_a_retriever_learns_from_any_stream_that_the_rows_have(tmp_path: Path) -> None:
    official(train=1, val=0, test=1).write_zips(tmp_path / "zips")
    written = '[import]\nsources = ["zips"]\n[bench]\nembeddings = "retriever"\n[retriever]\n'
    for stream in ("text_qwen3-4b", "poem"):
        tmp_path.joinpath(FILE).write_text(f'{written}stream = "{stream}"\n')
        project = Project(tmp_path)
        if stream in project.streams():
            assert project.steps()[-2].name == "train-retriever"
            continue
        with pytest.raises(
            ArasError, match="'poem': not a caption stream; the streams are hybrid_"
        ):
            project.steps()


def test_a_recipe_without_its_files_is_an_error_that_names_the_key(tmp_path: Path) -> None:
    project = recipe(tmp_path)
    (tmp_path / "inputs" / "a_Map.tif").unlink()
    with pytest.raises(ArasError, match=r"dataset\.toml: tiles\.maps: no file matches"):
        project.steps()
