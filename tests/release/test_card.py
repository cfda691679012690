"""The card and its companions: rendered from the data, valid, and true as written."""

import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlcroissant
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from builder.cli import cli
from builder.core.manifest import CONFIGS, read_manifest
from builder.land.classes import CLASSES
from builder.land.columns import BY_NAME, COLUMN_NAMES, COLUMNS, KINDS, SPLITS
from builder.models.record import require
from builder.pipeline.project import Project
from builder.release.card import column_type, fenced, write_cards
from builder.release.census import MEASURES, SIDES
from builder.release.check import violations
from builder.tiles import subsets
from tests.makers.damage import copy_of, restamp


@pytest.fixture
def release(project: Project) -> Path:
    return project.releases / "0.1.0"


@pytest.fixture
def card(release: Path) -> str:
    return (release / "README.md").read_text(encoding="utf-8")


def front(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def tables(card: str) -> list[list[str]]:
    """Runs of lines that begin with a bar, outside code."""
    text = re.sub(r"```.*?```", "", card, flags=re.DOTALL)
    return [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]


def test_every_python_snippet_of_the_card_runs_as_written(
    release: Path, card: str, tmp_path: Path
) -> None:
    shown = read_manifest(release).facts.census.examples["real"].id
    snippets = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(snippets) >= 9
    code = "\n".join(snippets).replace("hf://datasets/someone/tiny", str(release))
    code = code.replace("someone/tiny", str(release))
    code += "\nassert row['mask'].mode == 'P' and first['id']\n"
    code += "assert images.shape == (8, 3, 64, 64) and masks.shape == (8, 64, 64)\n"
    code += "assert len(texts) == 8 and all(texts)\n"
    code += "assert chosen.num_rows == sum(p['Tree'] >= 50 for p in data['train']['percent'])\n"
    code += "assert test['id'] == data['test']['id'] and len(table) + 51 == len(frame)\n"
    code += f"assert [id for id, in here] == [{shown!r}]\n"
    code += "assert list(picture.getdata()) == list(data['test'][0]['image'].getdata())\n"
    code += "import json\n"
    code += "print(json.dumps({id: name for name in subset for id in subset[name]['id']}))\n"
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": ""}
    command = [sys.executable, "-W", "error::SyntaxWarning", "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == subsets.read(release / "subsets" / "mini.csv")


def test_without_a_repository_the_snippets_load_the_folder_of_the_card(
    release: Path, tmp_path: Path
) -> None:
    copy = copy_of(release, tmp_path)
    restamp(copy, lambda manifest: manifest["facts"]["recipe"]["release"].update(repo=""))
    write_cards(copy)
    card = (copy / "README.md").read_text(encoding="utf-8")
    code = (
        re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0] + "assert row['mask'].mode == 'P'\n"
    )
    assert 'load_dataset(str(Path.cwd()), "real")' in code
    environment = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=copy, env=environment, check=True, timeout=120)


def test_the_card_s_command_takes_a_part_of_the_release(
    release: Path, card: str, tmp_path: Path
) -> None:
    (line,) = re.findall(r"^aras (get .*)$", card, re.MULTILINE)
    words = shlex.split(line.replace("hf://datasets/someone/tiny@0.1.0", str(release)))
    outcome = CliRunner().invoke(cli, ["-C", str(tmp_path), *words])
    assert outcome.exit_code == 0, outcome.output
    assert violations(tmp_path / "part") == []
    rows = columns_of(release, "real", "id", "split", "dominant")
    asked = (pc.field("split") == SPLITS.index("test")) & (pc.field("dominant") == 0)
    assert CLASSES[0] == "Tree"
    assert columns_of(tmp_path / "part", "real", "id") == rows.filter(asked).select(["id"])


def test_tables_render_on_github_and_the_hub(card: str) -> None:
    all_tables = tables(card)
    assert len(all_tables) >= 8
    for lines in all_tables:
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(bars) == 1, lines[:3]
        assert re.fullmatch(r"\|(---\|)+", lines[1]), lines[:3]
        assert len(lines) >= 3
        assert all(line.endswith("|") for line in lines)
    starts = [card.index(lines[0]) for lines in all_tables]
    assert all(card[start - 2 : start] == "\n\n" for start in starts)


def test_headings_stand_alone_and_no_template_is_left(card: str) -> None:
    body = "\n" + card.split("---\n", 2)[2]
    body = re.sub(r"```bibtex.*?```", "", body, flags=re.DOTALL)  # has braces of its own
    assert not re.search(r"\{[{%]|[%}]\}|Undefined|None\b", body)
    for heading in re.finditer(r"^#+ .*$", re.sub(r"```.*?```", "", body, flags=re.S), re.M):
        start = body.index(heading.group())
        assert body[start - 2 : start] == "\n\n"
        assert body[start + len(heading.group()) :].startswith("\n\n")


def test_the_yaml_tells_what_the_files_hold(release: Path, card: str) -> None:
    header = front(card)
    configs = read_manifest(release).configs
    asked_for = [name for name in CONFIGS if name != "embeddings"]
    assert [config["config_name"] for config in header["configs"]] == asked_for
    assert [config["config_name"] for config in header["configs"] if config.get("default")] == [
        "real"
    ]
    for info in header["dataset_info"]:
        rows = {split["name"]: split["num_examples"] for split in info["splits"]}
        assert rows == {split: files.rows for split, files in configs[info["config_name"]].items()}
        assert info["download_size"] == sum(
            (release / name).stat().st_size
            for entry in configs[info["config_name"]].values()
            for name in entry.files
        )
    assert header["license"] == "cc-by-4.0"
    assert header["size_categories"] == ["n<1K"]
    assert len(card.split("---\n")[1].splitlines()) < 80


def test_the_card_explains_every_column(card: str) -> None:
    for column in COLUMNS:
        assert f"| `{column.name}` | {column_type(column)} | " in card
        assert column.meaning in html.unescape(card)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("image", "Image"),
        ("kind", "ClassLabel: real, synthetic"),
        ("pixels", "uint32 per class"),
        ("transform", "list of float64"),
        ("saturated", "float32"),
        ("captions", "list of (stream, text, model, revision, prompt_sha256, seed, error)"),
    ],
)
def test_types_are_named_as_readers_know_them(name: str, text: str) -> None:
    assert column_type(BY_NAME[name]) == text


def test_class_shares_of_the_card_are_those_of_the_rows(release: Path, card: str) -> None:
    census = read_manifest(release).facts.census
    (table,) = [lines for lines in tables(card) if lines[0].startswith("| part | tiles |")]
    parts = [line.split(" | ")[0].strip("| ") for line in table[2:]]
    assert parts == ["real/train", "real/validation", "real/test", "synthetic/train"]
    for line, part in zip(table[2:], parts, strict=True):
        shown = [float(cell.removesuffix(" %")) for cell in line.strip("| ").split(" | ")[2:]]
        pixels = [census.pixels[part][name] for name in CLASSES]
        assert shown == pytest.approx([100 * count / sum(pixels) for count in pixels], abs=0.006)
        assert f"| {census.rows[part]} |" in line


def columns_of(release: Path, config: str, *names: str) -> pa.Table:
    files = [
        name for part in read_manifest(release).configs[config].values() for name in part.files
    ]
    return pa.concat_tables([pq.read_table(release / name, columns=list(names)) for name in files])


def test_shares_are_shown_as_asked_for_and_as_reached(release: Path, card: str) -> None:
    (table,) = [lines for lines in tables(card) if lines[0].startswith("| split | asked |")]
    rows = columns_of(release, "real", "split", "pixels").to_pylist()
    whole = Counter()
    for row in rows:
        whole.update(row["pixels"])
    for line, split, asked in zip(table[2:], SPLITS, ("60.0", "20.0", "20.0"), strict=True):
        mine = [row["pixels"] for row in rows if SPLITS[row["split"]] == split]
        shares = [sum(pixels[name] for pixels in mine) / whole[name] for name in CLASSES]
        reached = [f"{100 * share:.1f} %" for share in (len(mine) / len(rows), *shares)]
        assert line == f"| {split} | {asked} % | {' | '.join(reached)} |"
    assert "each has its share" not in card


def test_the_generator_stands_beside_textures_and_quilts(project: Project, card: str) -> None:
    sticks = require(project.models / "generator", "generator").yardsticks
    assert sticks is not None
    text = " ".join(card.split())
    assert (
        f"this generator {round(sticks.generator, 3)} ± {round(sticks.generator_error, 3)}" in text
    )
    assert f"quilts of train tiles, which copy, {round(sticks.quilt, 3)}" in text
    assert ("does not beat the textures" in text) != ("It beats the textures" in text)


def test_medians_of_synthetic_rows_stand_beside_those_of_real_rows(
    release: Path, card: str
) -> None:
    (table,) = [lines for lines in tables(card) if lines[0].startswith("| median of |")]
    assert table[0] == "| median of | real/train | real/validation | real/test | synthetic/train |"
    shown = {line.split("`")[1]: line.strip("| ").split(" | ")[1:] for line in table[2:]}
    assert list(shown) == [name for name in MEASURES if name != "nearest_real_ratio"]
    for name, cells in shown.items():
        rows = columns_of(release, "metadata", "kind", "split", name).to_pylist()
        for cell, (kind, split) in zip(cells, [(0, 0), (0, 1), (0, 2), (1, 0)], strict=True):
            part = [row[name] for row in rows if (row["kind"], row["split"]) == (kind, split)]
            assert float(cell.replace(",", "")) == pytest.approx(np.median(part), rel=6e-3)


def test_columns_with_nulls_are_named_by_kind(release: Path, card: str) -> None:
    for kind in KINDS:
        table = columns_of(release, kind, *COLUMN_NAMES)
        names = [f"`{name}`" for name in COLUMN_NAMES if table.column(name).null_count]
        assert f"\nNull in {kind} rows, all or some: {', '.join(names)}.\n" in card


def test_a_release_without_places_shows_no_map_and_names_none(
    release: Path, tmp_path: Path, card: str
) -> None:
    assert "](pictures/map.png)" in card
    assert "| place | 32.95° E to 33.03° E, 36.95° N to 37.00° N, in 2 cells of 1° |" in card
    assert "| grid | EPSG:4326, pixels of 1/12,000°, 9.3 m from north to south |" in card

    def nowhere(manifest: dict[str, Any]) -> None:
        del manifest["facts"]["census"]["extent"]

    copy = copy_of(release, tmp_path)
    shutil.rmtree(copy / "stac")
    restamp(copy, nowhere)
    write_cards(copy)
    card = (copy / "README.md").read_text(encoding="utf-8")
    assert not (copy / "pictures/map.png").exists()
    assert "map.png" not in card + (copy / "manifest.json").read_text(encoding="utf-8")
    assert "| place |" not in card
    assert "- Place: the rows do not say where on Earth they lie." in card


def test_a_release_without_captions_promises_none(release: Path, tmp_path: Path) -> None:
    def silent(manifest: dict[str, Any]) -> None:
        del manifest["configs"]["controls"]
        manifest["facts"]["recipe"]["captions"] = {}
        manifest["facts"]["census"]["streams"] = {}
        for example in manifest["facts"]["census"]["examples"].values():
            example["captions"] = []

    copy, card = rendered(release, tmp_path, silent)
    assert (
        "each with a land-cover mask of seven classes and its exact\ncomposition. Version" in card
    )
    body = card.split("---\n", 2)[2].split("## Columns")
    assert "aption" not in body[0] + body[1].split("## Class shares")[1]
    assert "aption" not in json.loads((copy / ".zenodo.json").read_text())["description"]


def test_the_funnel_and_the_distances_stand_in_the_card(project: Project, card: str) -> None:
    facts = read_manifest(project.releases / "0.1.0").facts
    cut = facts.counts["tiles"]
    assert cut["candidates"] == cut["kept"] + sum(
        cut[name] for name in ("black", "partly_black", "no_map", "nodata", "water")
    )
    assert f"| {cut['candidates']:,} | {cut['black']:,} |" in card
    assert facts.split
    for pair, km in facts.split.smallest_distance_km.items():
        assert f"| {pair.replace('-', ' and ')} | {km} km |" in card


def test_the_licence_and_the_sources_are_named(release: Path, card: str) -> None:
    for text in (card, (release / "LICENSE").read_text(encoding="utf-8")):
        assert "CC-BY-4.0" in text
        assert re.search(r"ontains\s+modified\s+Copernicus\s+Sentinel\s+data", text)
        assert "ESA WorldCover" in text


def rendered(
    release: Path, folder: Path, edit: Callable[[dict[str, Any]], None]
) -> tuple[Path, str]:
    """A copy of the release with its manifest changed and its texts rendered from that."""
    copy = copy_of(release, folder)
    restamp(copy, edit)
    write_cards(copy)
    return copy, (copy / "README.md").read_text(encoding="utf-8")


def test_sources_stand_with_doi_or_address_wherever_they_belong(release: Path, card: str) -> None:
    metadata = json.loads((release / ".zenodo.json").read_text(encoding="utf-8"))
    related = {
        related_record["identifier"]: related_record["relation"]
        for related_record in metadata["related_identifiers"]
    }
    assert related["10.5281/zenodo.7254221"] == "isDerivedFrom"
    assert related["https://huggingface.co/datasets/someone/tiny"] == "isIdenticalTo"
    for text in (card, (release / "LICENSE").read_text(encoding="utf-8")):
        assert "https://doi.org/10.5281/zenodo.7254221" in text
        assert "https://esa-worldcover.org/en/data-access" in text


def test_the_description_of_the_recipe_stands_in_the_record_s(
    release: Path, tmp_path: Path
) -> None:
    def described(manifest: dict[str, Any]) -> None:
        manifest["title"] = "Rock & sand"
        text = "Cliffs <b>above</b>\nthe sea & beaches.\n\n\nCounted twice.\n"
        manifest["facts"]["recipe"]["release"]["description"] = text

    copy, _ = rendered(release, tmp_path, described)
    description = json.loads((copy / ".zenodo.json").read_text(encoding="utf-8"))["description"]
    first, second, last = description.split("\n")
    assert first == "<p>Cliffs &lt;b&gt;above&lt;/b&gt; the sea &amp; beaches.</p>"
    assert second == "<p>Counted twice.</p>"
    assert last.startswith("<p>Rock &amp; sand. Image tiles with land-cover masks, ")
    assert last.endswith(" See README.md.</p>")


def test_a_release_made_from_no_data_of_others_names_none(release: Path, tmp_path: Path) -> None:
    def made_up(manifest: dict[str, Any]) -> None:
        manifest["facts"]["sources"] = []

    copy, card = rendered(release, tmp_path, made_up)
    assert "It uses no third-party data." in card
    assert "ESA WorldCover" not in card
    assert "Sentinel" not in card
    assert "sentinel-2" not in front(card)["tags"]
    assert "Copernicus" not in (copy / "LICENSE").read_text(encoding="utf-8")
    for name in (".zenodo.json", "croissant.json"):
        text = (copy / name).read_text(encoding="utf-8")
        assert "Sentinel" not in text
        assert "WorldCover" not in text


def test_other_sources_stand_as_the_recipe_tells_them(release: Path, tmp_path: Path) -> None:
    own = {"name": "Maps of mine", "license": "MIT", "notice": "© me", "doi": "", "url": ""}
    _, card = rendered(release, tmp_path, lambda value: value["facts"].update(sources=[own]))
    assert "- Maps of mine, MIT: © me.\n" in card


def test_a_release_without_synthetic_rows_claims_none(release: Path, tmp_path: Path) -> None:
    def all_real(manifest: dict[str, Any]) -> None:
        census = manifest["facts"]["census"]
        del manifest["configs"]["synthetic"], manifest["configs"]["augmented"]
        for key in ("rows", "pixels", "left_out", "streams", "mask_agreement"):
            counts = census[key]
            for name in [part for part in counts if part.startswith("synthetic")]:
                del counts[name]
        for key in ("duplicates", "near_duplicates"):  # tiles on a train tile's layout are near it
            spans = census[key].get("spans", {})
            for name in [parts for parts in spans if "synthetic" in parts]:
                del spans[name]
        manifest["facts"]["balance"] = None

    copy, card = rendered(release, tmp_path, all_real)
    assert "91 tiles of 64×64 pixels: 91 real tiles cut from Sentinel-2 composites, each" in card
    body = card.split("---\n", 2)[2].split("## Columns")
    body = body[0] + body[1].split("## Class shares")[1]
    assert "synthetic" not in body.lower()
    assert "synthetic" not in front(card)["tags"]
    assert "ynthetic" not in json.loads((copy / ".zenodo.json").read_text())["description"]
    keywords = json.loads((copy / "croissant.json").read_text())["keywords"]
    assert "synthetic data" not in keywords


@pytest.mark.parametrize(
    ("spdx", "url"),
    [
        ("CC-BY-4.0", "https://creativecommons.org/licenses/by/4.0/legalcode"),
        ("ODbL-1.0", "https://opendatacommons.org/licenses/odbl/1-0/"),
        ("etalab-2.0", "https://spdx.org/licenses/etalab-2.0.html"),
    ],
)
def test_the_licence_file_names_the_licence_and_its_terms(
    release: Path, tmp_path: Path, spdx: str, url: str
) -> None:
    copy, card = rendered(release, tmp_path, lambda value: value.update(license=spdx))
    text = (copy / "LICENSE").read_text(encoding="utf-8")
    assert f"SPDX-License-Identifier: {spdx}\n" in text
    assert f"\n{url}\n" in text
    assert f"]({url}) (`{spdx}`)" in card
    assert ("You may share and adapt it" in text) == (spdx == "CC-BY-4.0")


def test_limits_tell_place_time_balance_and_language(release: Path, card: str) -> None:
    census = read_manifest(release).facts.census
    table = pa.concat_tables(
        pq.read_table(path, columns=["longitude", "latitude"]) for path in release.glob("real/*")
    )
    longitude, latitude = (column.to_pylist() for column in table.columns)
    sides = (min(longitude), min(latitude), max(longitude), max(latitude))
    assert [getattr(census.extent, side) for side in SIDES] == [round(side, 4) for side in sides]
    cells = {(int(x // 1), int(y // 1)) for x, y in zip(longitude, latitude, strict=True)}
    assert census.extent.cells == len(cells) == 2
    limits = card.split("## Known limits and biases")[1].split("\n## ")[0]
    assert f"between {sides[0]:.4f}° and {sides[2]:.4f}° of longitude" in limits
    assert "in 2 cells of 1°" in limits
    assert "composites of 2021" in limits
    counts = Counter()
    for part, pixels in census.pixels.items():
        counts.update(pixels if part.startswith("real") else {})
    (most, many), *_, (least, few) = counts.most_common()
    assert f"from {most} with {100 * many / counts.total():.1f} %" in limits
    assert f"down to {least} with {100 * few / counts.total():.2f} %" in limits
    assert "Captions are in English only." in limits
    assert "small fixed vocabulary" in limits


def test_the_card_has_no_runs_of_spaces(card: str) -> None:
    body = re.sub(r"```.*?```", "", card.split("---\n", 2)[2], flags=re.DOTALL)
    assert re.findall(r"\S  +\S.*", body) == []


def test_a_fence_is_longer_than_any_in_the_text() -> None:
    assert fenced("a ``` b\n") == "````text\na ``` b\n````"


def test_authors_with_orcid_go_into_every_format(release: Path, tmp_path: Path) -> None:
    ada = {"name": "Lovelace, Ada", "orcid": "0000-0002-1825-0097", "affiliation": "Engines"}
    team = {"name": "The testers", "orcid": "", "affiliation": ""}
    copy, card = rendered(release, tmp_path, lambda value: value.update(authors=[ada, team]))
    cff = yaml.safe_load((copy / "CITATION.cff").read_text(encoding="utf-8"))
    assert [author.get("orcid") for author in cff["authors"]] == [
        "https://orcid.org/0000-0002-1825-0097",
        None,
    ]
    tool = Path(sys.executable).with_name("cffconvert")
    subprocess.run([tool, "--validate", "--infile", str(copy / "CITATION.cff")], check=True)
    zenodo = json.loads((copy / ".zenodo.json").read_text(encoding="utf-8"))
    assert zenodo["creators"] == [ada, {"name": "The testers"}]
    croissant = mlcroissant.Dataset(jsonld=copy / "croissant.json")
    assert not croissant.metadata.ctx.issues.errors
    assert [creator.name for creator in croissant.metadata.creators] == [
        "Lovelace, Ada",
        "The testers",
    ]
    assert "  author = {Lovelace, Ada and {The testers}},\n" in card


def test_the_citation_stands_in_the_card_as_bibtex(release: Path, tmp_path: Path) -> None:
    copy = copy_of(release, tmp_path)
    write_cards(copy, doi="10.5281/zenodo.1")
    card = (copy / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```bibtex\n(.*?)```", card, re.DOTALL)
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", block, re.MULTILINE))
    assert fields == {
        "title": "Tiny: tiles for tests",
        "author": "{The testers}",
        "year": "2026",
        "version": "0.1.0",
        "doi": "10.5281/zenodo.1",
        "url": "https://huggingface.co/datasets/someone/tiny",
    }
    cff = yaml.safe_load((copy / "CITATION.cff").read_text(encoding="utf-8"))
    assert {key: cff[key] for key in ("title", "version", "url")}.items() <= fields.items()


def test_cffconvert_accepts_the_citation(release: Path) -> None:
    tool = Path(sys.executable).with_name("cffconvert")
    command = [tool, "--validate", "--infile", str(release / "CITATION.cff")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "valid" in done.stdout.lower()


def test_a_doi_goes_into_card_citation_and_sums(release: Path, tmp_path: Path) -> None:
    copy = copy_of(release, tmp_path)
    write_cards(copy, doi="10.5281/zenodo.1", concept_doi="10.5281/zenodo.2")
    cff = yaml.safe_load((copy / "CITATION.cff").read_text(encoding="utf-8"))
    assert [identifier["value"] for identifier in cff["identifiers"]] == [
        "10.5281/zenodo.1",
        "10.5281/zenodo.2",
    ]
    assert "https://doi.org/10.5281/zenodo.1" in (copy / "README.md").read_text(encoding="utf-8")
    write_cards(copy)
    again = yaml.safe_load((copy / "CITATION.cff").read_text(encoding="utf-8"))
    assert again == cff
    tool = Path(sys.executable).with_name("cffconvert")
    subprocess.run([tool, "--validate", "--infile", str(copy / "CITATION.cff")], check=True)


def test_the_zenodo_metadata_is_json_with_the_recipe_s_words(release: Path) -> None:
    metadata = json.loads((release / ".zenodo.json").read_text(encoding="utf-8"))
    assert metadata["upload_type"] == "dataset"
    assert metadata["creators"] == [{"name": "The testers"}]
    assert (metadata["version"], metadata["publication_date"]) == ("0.1.0", "2026-01-31")


def test_pictures_show_what_they_should(release: Path) -> None:
    from PIL import Image

    for name in ("contact-sheet", "class-shares", "balance"):
        with Image.open(release / "pictures" / f"{name}.png") as picture:
            colours = picture.convert("RGB").getcolors(1 << 24)
            assert picture.width > 500
            assert len(colours) > 20
