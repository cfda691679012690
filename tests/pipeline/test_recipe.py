"""A recipe is read whole or refused in one line that names file, key and the way out."""

import datetime
import re
from pathlib import Path
from typing import Any

import pytest

from builder.captions.template import STYLES
from builder.core.errors import ArasError
from builder.pipeline import recipe
from builder.pipeline.project import Project
from builder.pipeline.recipe import FILE, Recipe, load

if recipe.sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def refusal(directory: Path, text: str) -> str:
    """What ``load`` says of a recipe, without the file's name, which comes first."""
    (directory / FILE).write_text(text)
    with pytest.raises(ArasError) as error:
        load(directory)
    assert error.value.exit_code == 2
    path, _, message = str(error.value).partition(f"{FILE}: ")
    assert path == f"{directory}/"
    return message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tils]", "unknown key tils; did you mean tiles?"),
        ("[tiles]\nmapps = ['a']", "unknown key tiles.mapps; did you mean maps?"),
        ("[captions.a]\nzzz = 1", "unknown key captions.a.zzz; known keys: backend, style"),
        ("[subsets.a]\nrow = 1\nrows = 1", "unknown key subsets.a.row; did you mean rows?"),
        ("[split.shares]\ntrian = 1.0", "unknown key split.shares.trian; did you mean train?"),
        ("[tiles]\nmax_water = 'much'", "tiles.max_water = 'much': input should be a valid number"),
        ("[dataset]\nseed = '3'", "dataset.seed = '3': input should be a valid integer"),
        ("[dataset]\nseed = true", "dataset.seed = True: input should be a valid integer"),
        ("[engine]\nworkers = 2.0", "engine.workers = 2.0: input should be a valid integer"),
        ("[tiles]\nmaps = 'a'", "tiles.maps = 'a': input should be a valid list"),
        ("tiles = 3", "tiles = 3: expected a table, [tiles] with its keys below it"),
        ("[tiles]\nmax_water = 1.5", "tiles.max_water = 1.5: input should be less than or equal"),
        ("[tiles]\nsize = 100", "tiles.size = 100: input should be 64, 128, 256 or 512"),
        ("[tiles]\nmaps = []", "tiles.maps = []: list should have at least 1 item"),
        (
            "[tiles]\nreflectance = [0.3, 0.1]",
            "tiles.reflectance = [0.3, 0.1]: expected two reflectances",
        ),
        ("[tiles.remap]\n10 = 'Lake'", "tiles.remap.10 = 'Lake': input should be 'Tree', 'Shrub'"),
        ("[tiles.remap]\n0 = 'Tree'", "tiles.remap = {'0': 'Tree'}: map codes are 1…250, not 0"),
        ("[split]\nbuffer_km = inf", "split.buffer_km = inf: input should be a finite number"),
        (
            "[split.shares]\ntrain = 0.5",
            "split.shares = {'train': 0.5}: train, validation and test",
        ),
        ("[segmenter]\ncrop = 50", "segmenter.crop = 50: input should be a multiple of 8"),
        ("[generator]\ncrop = 512", "generator.crop = 512 is larger than tiles.size = 256"),
        ("[generator]\nsteps = 0", "generator.steps = 0: input should be greater than 0"),
        ("[generator]\nmin_snr = 0", 'generator.min_snr belongs to objective = "ddpm"'),
        (
            "[generator]\nmax_repeats = 18",
            "generator.max_repeats = 18: at most 8, because a layout has so many turns and flips "
            "to tell repeats apart; set variants for more layouts",
        ),
        ("[captions.a]\nstyle = 'ful'", "captions.a.style = 'ful': input should be 'dominant'"),
        (
            "[captions.'A b']",
            "captions.A b = 'A b': expected small letters, digits, '.', '_' and '-'",
        ),
        ("[dataset]\nversion = '1'", "dataset.version = '1': expected MAJOR.MINOR.PATCH, for"),
        ("[dataset]\ndate = 'May'", "dataset.date = 'May': expected a date, for example"),
        ("[release]\nrepo = 'tiles'", "release.repo = 'tiles': expected a Hub repository"),
        ("[dataset]\ndate = 2026-02-31", "not TOML: "),
        ("[dataset]\ndate = '2026-02-31'", "dataset.date = '2026-02-31': day"),
        ("a = " + "[" * 5000, "is nested too deeply to be a recipe"),
        ("a = = 1", "not TOML: Invalid value (at line 1, column 5)"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path: Path, text: str, expected: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith(expected)
    assert "\n" not in message


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[tils]\n[engine]\nkind = 'slurm'\n[dataset]\nseed = 'x'")
    assert len(message.splitlines()) == 3
    assert all(FILE in line for line in message.splitlines()[1:])


def test_a_missing_recipe_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ArasError, match=r"dataset\.toml: no such recipe; `aras init .*-C DIR"):
        load(tmp_path)
    with pytest.raises(ArasError, match="no such recipe"):
        load(tmp_path / "no" / "such" / "place")


@pytest.mark.parametrize("body", [b"\xff\xfe", None])
def test_a_recipe_that_is_no_text_is_refused(tmp_path: Path, body: bytes | None) -> None:
    path = tmp_path / FILE
    path.mkdir() if body is None else path.write_bytes(body)
    with pytest.raises(ArasError, match="not TOML"):
        load(tmp_path)


def test_what_toml_writes_differently_is_understood(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(
        "[dataset]\ndate = 2026-01-31\n[tiles]\nreflectance = [0, 1]\nmax_water = 1\n"
        "[tiles.remap]\n10 = 'Shrub'\n111 = 'Tree'\n[generator]\nbalance = { Water = 0.1 }\n"
    )
    read = load(tmp_path)
    assert read.dataset.date == "2026-01-31"
    assert read.tiles.reflectance == (0.0, 1.0)
    assert (read.tiles.remap[10], read.tiles.remap[20], read.tiles.remap[111]) == (
        "Shrub",  # changed
        "Shrub",  # as it is by default
        "Tree",  # added
    )


def test_an_empty_recipe_is_the_default_one(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("")
    assert load(tmp_path) == Recipe()


def commented(text: str) -> dict[str, Any]:
    """The recipe with its commented-out keys and tables in place."""
    lines = [re.sub(r"^# (?=\w+ = |\[)", "", line) for line in text.splitlines()]
    return tomllib.loads("\n".join(lines))


def test_init_writes_a_recipe_that_equals_the_defaults(tmp_path: Path) -> None:
    path = recipe.write(tmp_path / "My Land-Cover!")
    written = load(path.parent)
    own = {"name": "my-land-cover", "date": datetime.date.today().isoformat()}
    assert written.dataset.model_dump(include=set(own)) == own
    assert written.model_dump(exclude={"captions": True, "dataset": {"authors", *own}}) == (
        Recipe().model_dump(exclude={"captions": True, "dataset": {"authors", *own}})
    )
    assert {name: stream.style for name, stream in written.captions.items()} == {
        s: s for s in STYLES
    }


TRAINED = ("segmenter", "autoencoder", "generator", "retriever")


def test_the_commented_keys_show_the_values_that_hold_without_them(tmp_path: Path) -> None:
    """Commented keys are the defaults of the code: of the profile, or of the sampler."""
    text = recipe.write(tmp_path).read_text()
    shown = commented(text)
    example = shown["generator"].pop("pipeline")  # in the place of other keys shown
    Recipe.model_validate({"generator": {"pipeline": example}})
    Recipe.model_validate(shown)
    extra = {
        (section, key): value
        for section, keys in shown.items()
        if section != "captions"
        for key, value in keys.items()
        if key not in tomllib.loads(text).get(section, {})
    }
    project = Project(tmp_path)
    assert {section for section, _ in extra} >= set(TRAINED)
    holds = {name: project.training(name).settings for name in TRAINED}
    draw = project.synthesis()[-1]
    for (section, key), value in extra.items():
        source = holds[section] if hasattr(holds[section], key) else draw
        held = getattr(source, key)
        assert (list(held) if isinstance(held, tuple) else held) == value, f"[{section}] {key}"


@pytest.mark.parametrize("start", recipe.STARTS)
def test_every_recipe_that_init_offers_loads(tmp_path: Path, start: str) -> None:
    recipe.write(tmp_path, start=start)
    read = load(tmp_path)
    begin = recipe.STARTS[start]
    assert read.imports.sources == (["official"] if start == "official" else [])
    if start != "official":
        assert (read.tiles.size, read.split.block) == (begin.size, begin.block)


def test_the_demo_recipe_loads_and_is_small(tmp_path: Path) -> None:
    recipe.write(tmp_path, demo=True)
    read = load(tmp_path)
    assert read.generator.rows <= Recipe().generator.rows
    assert read.segmenter.steps
    assert read.tiles == Recipe().tiles


def test_init_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text("mine")
    with pytest.raises(ArasError, match=r"dataset\.toml: already exists; not changed"):
        recipe.write(tmp_path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["___", "…", "."])
def test_a_folder_whose_name_is_no_dataset_name_gets_a_recipe_that_loads(
    tmp_path: Path, name: str
) -> None:
    recipe.write(tmp_path / name)
    load(tmp_path / name)


def test_patterns_are_relative_to_the_recipe_and_found_once(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b_Map.tif", "a_Map.tif"):
        (tmp_path / "in" / name).touch()
    patterns = ["in/*_Map.tif", f"{tmp_path}/in/a*", "**/b_Map.tif", "in/../in/b_Map.tif"]
    files = recipe.files(tmp_path, patterns, "tiles.maps")
    assert [path.name for path in files] == ["a_Map.tif", "b_Map.tif"]


@pytest.mark.parametrize("pattern", ["in/*_Map.tif", "/no/such/*.tif", "", "/", "**x", "~/x.tif"])
def test_a_pattern_without_a_file_names_the_key_and_the_way_out(
    tmp_path: Path, pattern: str
) -> None:
    (tmp_path / "good.tif").touch()
    with pytest.raises(ArasError) as error:
        recipe.files(tmp_path, ["good.tif", pattern], "tiles.maps")
    assert str(error.value) == (
        f"{tmp_path / FILE}: tiles.maps: no file matches {pattern!r}; put the files there, "
        "write where they are, or let `aras fetch inputs --bbox W S E N` bring them"
    )


@pytest.mark.parametrize(
    "line",
    ['title = "two\\nlines"', 'license = "MIT\\u001b[31m"', 'authors = ["Doe,\\tJane"]'],
)
def test_what_goes_on_a_line_of_the_card_is_one_visible_line(line: str, tmp_path: Path) -> None:
    (tmp_path / "dataset.toml").write_text(f"[dataset]\n{line}\n", encoding="utf-8")
    with pytest.raises(ArasError, match="expected one line, without control characters"):
        load(tmp_path)
