"""Every script runs as a maintainer runs it, at its smallest size."""

import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from builder.core.manifest import read_manifest
from builder.land.grid import cell_origin
from builder.land.pictures import encode_png
from builder.pipeline.project import Project
from builder.release import benchmark
from tests.makers.bench_release import bench_release
from tests.makers.products import (
    codes_of,
    composite_name,
    land,
    map_name,
    reflect,
    write_composite,
    write_map,
)
from tests.makers.tiny_models import tiny_model

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
PAGES = [ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
LIBRARIES = {"generator_measures.py", "measure.py"}
"""What scripts import; not run itself."""
ELSEWHERE = {
    "bench_generate.py": "models/test_bench_generate.py",
    "measure_reader.py": "scores/test_gold.py",
    "write_coastline.py": "explore/test_coastline.py",
    "write_columns.py": "land/test_columns_page.py",
    "write_site.py": "docs/test_pages.py",
}
"""Scripts that another test runs."""


def run(script: str, *options: str | Path) -> str:
    """What a script prints; its errors fail the test."""
    command = [sys.executable, str(SCRIPTS / script)]
    for option in options:
        command += [str(option)] if isinstance(option, Path) else option.split()
    ended = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_planted_copies_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with tarfile.open(tmp_path / "tiles.tar", "w") as archive:
        for number in range(60):
            noise = rng.normal(120, 40, (16, 16, 3)).clip(0, 255).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC).save(file, "JPEG")
            member = tarfile.TarInfo(f"land/{number}.jpg")
            member.size = file.tell()
            file.seek(0)
            archive.addfile(member, file)
    options = "--train 20 --copies 4 --held-out 6 --kinds half"
    first, *kinds = map(
        json.loads, run("measure_copies.py", tmp_path / "tiles.tar", options).splitlines()
    )
    assert first["accused"] == 0
    assert [line["changed"] for line in kinds[::4]] == ["not", "turned+bright+jpeg"]
    assert kinds[0]["recall"] == 1
    chosen = run("measure_copies.py", tmp_path / "tiles.tar", options + " --choose").splitlines()
    kinds = [json.loads(line) for line in chosen[1:]]
    assert len(kinds) == 15  # three thresholds of each
    assert kinds[0]["copied"] <= kinds[1]["copied"] <= kinds[2]["copied"]


def test_layouts_are_measured_beside_real_masks(project: Project, tmp_path: Path) -> None:
    picture = tmp_path / "layouts.png"
    options = ("--rows 4 --variants 4 --most 3 --balance uniform --picture", picture)
    lines = run("measure_layouts.py", project.directory, *options).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(row) for row in rows} == {8}
    names = [row[0] for row in rows[2:]]
    assert names[0] == "real"
    assert "rows of a plan" in names
    assert names.count("recombined") == 1
    assert names.count("real, alike") == 1 + sum(name.endswith("pasted") for name in names)
    assert rows[2][-1] == "0.000"
    assert Image.open(picture).size[0] > 100


def test_balance_plans_are_timed() -> None:
    sizes = "--layouts 60 --rows 90 --caps 0 4 --targets natural uniform"
    lines = run("bench_balance.py", sizes).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["natural", "natural", "uniform", "uniform"]


def test_batched_captions_are_timed_against_single_ones(tmp_path: Path) -> None:
    sizes = "--rows 3 --batch 3 --max-new-tokens 4 --show 1 --json"
    report = json.loads(run("bench_caption.py", "--model", tiny_model(tmp_path / "tiny"), sizes))
    assert (report["rows"], len(report["captions"])) == (3, 1)
    assert report["runs"][0]["same_text"] + report["runs"][0]["failed"] == 3


def test_the_command_line_is_timed() -> None:
    assert "aras build --help" in run("bench_cli.py", "--runs 1")


def test_the_engine_is_simulated_on_machines_that_die_and_are_slow() -> None:
    sizes = "--workers 40 --shards 400 --seconds 60 --mtbf 0.05 --slow 0.2 --json"
    report = json.loads(run("simulate_engine.py", sizes))
    assert (report["workers"], report["shards"], report["failed"]) == (40, 400, 0)
    assert report["deaths"] > 0
    shares = [report[name] for name in ("useful", "opening", "lost", "idle")]
    assert sum(shares) == pytest.approx(1)
    assert report["best_seconds"] < report["seconds"]


def test_finished_experiments_are_tested_again_and_the_committed_pages_are_what_comes_out(
    tmp_path: Path,
) -> None:
    names = ("augmentation", "imbalance-scene", "imbalance-eurosat")
    for name in names:
        (tmp_path / name).mkdir()
        for file in ("report.json", "ranks.npz"):
            if (ROOT / "docs/results" / name / file).exists():
                shutil.copy(ROOT / "docs/results" / name / file, tmp_path / name)
    run("retest_results.py", *(tmp_path / name for name in names))
    for name in names:
        written = (tmp_path / name / "retest.md").read_text(encoding="utf-8")
        assert written == (ROOT / "docs/results" / name / "retest.md").read_text(encoding="utf-8")


def test_a_comparison_of_releases_is_timed_and_reports_exactly_the_changes() -> None:
    report = json.loads(run("bench_diff.py", "--rows 400 --json"))
    assert (report["removed"], report["added"], report["step"]) == (1, 1, "major")


def test_the_bytes_of_a_part_are_counted() -> None:
    report = json.loads(run("bench_get.py", "--rows 60 --json"))
    water = report["parts"]["dominant = 'Water'"]
    assert 0 < water["rows"] < 10
    assert 1 < water["ratio"] < report["bytes"] / water["picture_bytes"]


@pytest.mark.skipif(
    shutil.which("chromedriver") is None, reason="no Chromium here (apt-get install chromium)"
)
def test_the_page_of_a_release_is_timed_on_both_screens() -> None:
    report = json.loads(run("bench_explore.py", "--rows 500 --packaged 200 --json"))
    assert report["rows"] == 500
    for screen in ("desktop", "phone"):
        assert 0 < report[screen]["screen_requests"] <= report[screen]["screen_tiles"]
        assert report[screen]["filter_ms"] > 0
        assert report[screen]["memory_bytes"] > 0


def test_finding_repeats_is_timed() -> None:
    assert json.loads(run("bench_duplicates.py", "--captions 200"))["captions"] == 200


def test_grounding_is_timed() -> None:
    report = json.loads(run("bench_grounding.py", "--captions 50 --processes 1"))
    assert report["captions_per_second"] > 0


def test_the_cost_of_judging_pixels_is_measured_on_a_folder_of_tiles(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(4):
        tile = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        tile.resize((64, 64)).save(tmp_path / f"{i}.png")
    text = run("bench_images.py", tmp_path, "--altered 2 --crops 5")
    assert "4 tiles: 0 equal to another" in text
    assert "realism of 1 unseen tiles" in text
    assert "as brute force: True" in text


def test_an_import_is_timed_against_the_usual_loop() -> None:
    sizes = "--rows 12 --side 1 --listing 20 --mask-rows 2 --usual 1 --workers 1 --json"
    text = run("bench_import.py", sizes)
    report = json.loads(text[text.index("{") :])
    assert [imported["rows"] for imported in report["imports"]] == [12]
    assert report["listing"]["rows"] == 20


def test_packaging_is_timed_against_the_usual_ways() -> None:
    report = json.loads(run("bench_package.py", "--rows 8 --repeats 1 --json"))
    assert {"concatenation", "from_generator", "SplitWriter", "aras package"} <= {*report["ways"]}


def test_page_layouts_are_compared() -> None:
    report = json.loads(run("bench_pages.py", "--rows 100 --repeats 1 --json"))
    assert report["layouts"][0]["layout"] == "one picture"


def test_planning_is_timed_with_and_without_what_the_first_plan_kept() -> None:
    text = run("bench_plan.py", "--shards 1")
    assert text.index("every file opened") < text.index("rerun")


def test_planning_in_a_bucket_counts_its_requests() -> None:
    lines = run("bench_plan.py", "--shards 1 --bucket").splitlines()
    counts = [line for line in lines if line.startswith("requests:")]
    assert len(counts) == 2
    assert "'LIST': 1" in counts[1]
    assert "'PUT'" not in counts[1]


def test_ranks_are_timed_against_the_matrix_product() -> None:
    report = json.loads(run("bench_retrieval.py", "--sizes 20 30"))
    assert report["full_size"]["images"] == 30


def test_the_command_is_timed_from_its_start_to_its_end() -> None:
    report = json.loads(run("bench_retrieval.py", "--start-to-end --skip-full --sizes 20 30"))
    assert report["20"]["times_cpu_seconds"] > 0
    assert report["protocols"]["protocols"] == ["S", "D", "C"]


def test_the_memory_of_a_text_baseline_is_measured() -> None:
    report = json.loads(run("bench_retrieval.py", "--memory --sizes 20 30"))
    assert report["words"]["texts"] == 150


def test_tiles_are_cut_as_by_the_usual_loop(tmp_path: Path) -> None:
    left, top = cell_origin("N36E033")
    ids = land((2 * 256, 2 * 256))
    write_map(tmp_path, codes_of(ids), left, top, name=map_name("N36E033"))
    write_composite(tmp_path, reflect(ids), left, top, name=composite_name("N36E033"))
    text = run("bench_tiles.py", tmp_path, "--workers 1")
    assert len(set(re.findall(r"(\d+) tiles of", text))) == 1


def test_memory_over_a_granule_is_measured_for_a_stack_and_for_jpeg_2000() -> None:
    text = run("bench_granule.py", "--side 640 --size 64")
    for kind in ("stack", "jp2"):
        assert re.search(rf"{kind} +640²: [1-9]\d* tiles, .* peak \d+ MB", text)
        assert re.search(rf"{kind} +peak of the whole granule / of a sixteenth: \d", text)


def test_what_further_attempts_lift_is_measured(tmp_path: Path) -> None:
    sizes = "--rows 3 --batch 2 --attempts 2 --max-new-tokens 4"
    report = json.loads(run("measure_attempts.py", "--model", tiny_model(tmp_path / "tiny"), sizes))
    assert report["one_attempt"]["attempts"] == 3 < report["several"]["attempts"] <= 6


def test_requests_in_flight_are_measured_against_the_limit() -> None:
    report = json.loads(run("measure_serving.py", "--rows 6 --concurrency 3 --mean 0.01"))
    assert report["continuous"]["requests"] == report["in_rounds"]["requests"] >= 6
    assert report["continuous"]["most_in_flight"] <= 3


def test_reference_tiles_are_cut_from_maps_and_come_out_the_same_again(tmp_path: Path) -> None:
    left, top = cell_origin("N36E033")
    write_map(tmp_path, codes_of(land((512, 512))), left, top, name=map_name("N36E033"))
    maps = sorted(tmp_path.glob("*_Map.tif"))
    for name in ("a.npz", "b.npz"):
        text = run("write_reference_tiles.py", *maps, "--out", tmp_path / name)
        assert text.startswith("9 tiles cut, 9 drawn")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_solver_steps_are_compared_on_a_projects_own_generator(project: Project) -> None:
    text = run("compare_solver_steps.py", project.directory, "--steps 1 3 --tiles 3")
    rows = [line.split(" | ") for line in text.splitlines()[2:]]
    assert [row[0].strip("| ") for row in rows] == ["real", "1", "3"]
    assert len({row[1] for row in rows}) == 3


def test_generators_are_compared_on_the_tiles_of_a_project(
    project: Project, tmp_path: Path
) -> None:
    copy = shutil.copytree(project.directory, tmp_path / "copy")
    archive = tmp_path / "eurosat.tar"
    with tarfile.open(archive, "w") as tar:
        for folder, tile in itertools.product(("Forest", "River"), range(3)):
            level = np.full((64, 64, 3), 40 * tile + 90 * (folder == "River"), np.uint8)
            data = encode_png(level)
            info = tarfile.TarInfo(f"EuroSAT/{folder}/{tile}.png")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    options = f"--eurosat {archive} --seconds 0.5 --tiles 4 --split test --network-steps 2"
    arms = "--arms texture,ddpm-16,edm-texture-class --seeds 0"
    run("compare_generators.py", copy, f"{options} {arms} --out {tmp_path}/records")
    records = {p.name: json.loads(p.read_text()) for p in (tmp_path / "records").iterdir()}
    assert len(records) == 3
    assert records["ddpm-16-0-test-0.5.json"]["steps"] >= 1
    before = run("compare_generators.py", copy, f"{options} {arms} --out {tmp_path}/records")
    assert before == ""  # what is there is not made again
    table = run("compare_generators.py", f"--table {tmp_path}/records")
    assert len(table.splitlines()) == 2 + sum(len(r["draws"]) for r in records.values())


def test_the_choice_of_an_evaluation_is_repeated_on_other_crops(project: Project) -> None:
    options = "--seconds 0.5 --crops 12 --some 4 8 --repeats 5"
    lines = run("repeat_choice.py", project.directory, options).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 4", "| 8"]


def test_the_gpu_profiles_are_rehearsed() -> None:
    lines = run("rehearse_gpu.py", "--models segmenter").splitlines()
    assert len(lines) == 3
    assert "segmenter: a step of 64 (40,000 in all)" in lines[2]


def test_imbalance_is_measured_on_an_archive_of_scene_classes(tmp_path: Path) -> None:
    classes = [
        "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture",
        "PermanentCrop", "Residential", "River", "SeaLake",
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    with tarfile.open(tmp_path / "tiles.tar", "w") as tar:
        for name in [f"{label}_{i}.jpg" for label in classes for i in range(8)]:
            tile = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
            tile.save(tmp_path / name)
            tar.add(tmp_path / name, name)
    sizes = "--test 2 --largest 6 --factor 3 --small --seeds 2"
    steps = "--generator-steps 1 --sampling-steps 1 --steps 1"
    out = ("--out", tmp_path / "out")
    text = run("imbalance_eurosat.py", tmp_path / "tiles.tar", *out, sizes, steps)
    assert text.startswith("NO CONCLUSION")  # one step teaches nothing
    assert "of the rarest class, 2 tiles" in text
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["train_tiles"]) == classes
    assert len(report["arms"]) == 10


def test_doses_are_run_on_an_archive_of_scene_classes(tmp_path: Path) -> None:
    classes = (
        "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop "
        "Residential River SeaLake"
    )
    rng = np.random.default_rng(0)
    with tarfile.open(tmp_path / "tiles.tar", "w") as tar:
        for name in [f"{label}_{i}.jpg" for label in classes.split() for i in range(40)]:
            tile = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
            tile.save(tmp_path / name)
            tar.add(tmp_path / name, name)
    (tmp_path / "doses.toml").write_text(
        'controls = ["real", "repeated", "shuffled"]\n[training]\nsteps = 1\nbatch = 4\n'
        "[doses.oracle]\nkind = 'held-out'\n"
        "[doses.labels-50]\nkind = 'labels'\nstrength = 0.5\n"
        "[doses.blur]\nkind = 'blur'\nstrength = 2.0\n"
    )
    out = tmp_path / "out"
    sizes = "--real 40 --factor 3 --test 20 --judge 4 --seeds 2"
    run("doses_eurosat.py", tmp_path / "tiles.tar", "--doses", tmp_path / "doses.toml",
        "--out", out, sizes)  # fmt: skip
    assert len(list((out / "runs").iterdir())) == 12
    (out / "studies.txt").write_text("convolutions\n")
    text = run("doses_report.py", out, "--out", tmp_path / "again")
    assert text.startswith("NO CONCLUSION")  # one step of noise teaches nothing
    assert (tmp_path / "again" / "report.md").read_text() == (out / "report.md").read_text()


def test_what_places_cost_a_release_is_measured(project: Project) -> None:
    release = project.releases / "0.1.0"
    report = json.loads(run("measure_places.py", release, "--repeat 2 --json"))
    assert report["metadata bytes"] > report["metadata bytes without places"] > 0
    assert report["release bytes"] > report["items bytes"] > 0


def test_the_house_is_measured() -> None:
    assert "circles of rooms" in run("measure_house.py", ROOT)


def test_a_release_is_rehearsed_and_checked() -> None:
    sizes = "--rows 24 --shard-rows 12 --check --read --json"
    report = json.loads(run("rehearse_full_size.py", sizes))
    assert (report["rows"]["metadata"], report["captions"]) == (24, 120)
    steps = {step["step"]: step for step in report["steps"]}
    assert list(steps) == ["fill", "package", "count", "check", "report", "score", "bench"]
    assert steps["score"]["scored"] == 120


def test_every_script_is_named_by_a_page_and_run_by_a_test() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    tests = Path(__file__).read_text(encoding="utf-8")
    for name in {path.name for path in SCRIPTS.glob("*.py")} - LIBRARIES:
        assert f"scripts/{name}" in pages, name
        if name in ELSEWHERE:
            elsewhere = (ROOT / "tests" / ELSEWHERE[name]).read_text(encoding="utf-8")
            assert name.removesuffix(".py") in elsewhere
        else:
            assert f'run("{name}"' in tests, name


def test_the_pull_request_to_mteb_holds_tasks_that_load_and_their_statistics(
    tmp_path: Path,
) -> None:
    release = bench_release(tmp_path / "release")
    assert benchmark.write_benchmark(release, read_manifest(release))
    run("mteb_pull_request.py", release, f"someone/striped {'0' * 40}", tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("striped_retrieval.py")
    code = path.read_text()
    assert f"hf://datasets/someone/striped@{'0' * 40}" in code
    place = code.split('ROOT = "', 1)[1].split('"', 1)[0]
    path.write_text(code.replace(place, str(release)))
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from striped_retrieval import TASKS, StripedMergedI2TRetrieval as Task\n"
        "task = Task(); task.load_data(); part = task.dataset['words']['test']\n"
        "print(len(TASKS), len(part['queries']), len(part['corpus']))\n"
    )
    command = [sys.executable, "-c", program, str(path.parent)]
    loaded = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert loaded.returncode == 0, loaded.stderr
    stats = json.loads(next(tmp_path.rglob("StripedMergedI2TRetrieval.json")).read_text())
    words = stats["test"]["hf_subset_descriptive_stats"]["words"]
    expected = [6, words["num_queries"], words["num_documents"]]
    assert [int(n) for n in loaded.stdout.split()] == expected
    assert words["num_documents"] < words["num_queries"] == 10


def test_eurosat_becomes_a_retrieval_set_whose_model_runs(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "tiles.tar", "w") as archive:
        for k, kind in enumerate(("Forest", "SeaLake")):
            for n in range(6):
                file = io.BytesIO()
                pixels = np.full((8, 8, 3), (90 * k, 120 - 10 * n, 60), np.uint8)
                Image.fromarray(pixels).save(file, "PNG")
                member = tarfile.TarInfo(f"./{kind}/{kind}_{n}.png")
                member.size = len(file.getvalue())
                archive.addfile(member, io.BytesIO(file.getvalue()))
    out = tmp_path / "set"
    assert "12 tiles" in run("eurosat_retrieval.py", tmp_path / "tiles.tar", out)
    options = "--data captions.json --images pictures --model eurosat_colours:model --json"
    command = [sys.executable, "-m", "builder", "bench", "retrieval", *options.split()]
    ended = subprocess.run(
        command,
        cwd=out,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stderr
    figures = json.loads(ended.stdout)["streams"]["captions"]
    assert figures["D"]["t2i"]["R@1"] == 100
