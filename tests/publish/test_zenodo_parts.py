"""A real release goes out as two records, and each of them serves whoever finds it alone."""

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlcroissant
import pyarrow.parquet as pq
import pytest
import yaml

from builder.core.manifest import CONFIGS, read_manifest
from builder.publish.zenodo_plan import KIND, Limits, foreseen, read_flat, record_files
from builder.release.card import flat_name, write_cards
from builder.release.check import violations
from tests.loopback.zenodo import LoopbackZenodo
from tests.makers.project import built_project
from tests.makers.zenodo_publisher import TOKEN, Publisher, assert_nothing_sent_twice

ROLES = tuple(KIND)
BESIDE = {"stac-items.parquet", "benchmark-captions.parquet"}
"""Tables of no config."""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The published pair: release, what the command told, and each record's downloads."""
    root = tmp_path_factory.mktemp("two-records")
    project = built_project(tmp_path_factory.getbasetemp())
    release = Path(shutil.copytree(project.releases / "0.1.0", root / "packaged/0.1.0"))
    with LoopbackZenodo(TOKEN, prefix="10.5281") as server:
        publisher = Publisher(server, root, render=write_cards, violations=violations)
        size = sum(file.size for file in record_files(read_flat(release)))
        publisher.draft(release, limits=Limits(bytes=size - 1))
        outcome = publisher.finish(release)
        assert publisher.draft(release, limits=Limits(bytes=size - 1))["state"] == "published"
        assert_nothing_sent_twice(server)
        folders = {}
        for role in ROLES:
            folders[role] = root / role
            folders[role].mkdir()
            deposit = server.deposits[int(outcome["records"][role]["id"])]
            for name, (_, content) in deposit.files.items():
                (folders[role] / name).write_bytes(content)
            outcome["records"][role]["metadata"] = deposit.metadata
    return release, outcome, folders


@pytest.fixture(params=ROLES)
def role(request):
    return request.param


@pytest.fixture
def folder(two, role):
    return two[2][role]


@pytest.fixture
def card(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def rows_of(folder, name):
    return pq.read_metadata(folder / name).num_rows


def test_each_record_holds_its_kind_and_both_have_cards(two):
    release, _, folders = two
    names = {role: {path.name for path in folder.iterdir()} for role, folder in folders.items()}
    shards = {flat_name(file.path) for file in read_manifest(release).files}
    shards = {name for name in shards if name.endswith(".parquet")}
    assert {name for name in names["synthetic"] if name in shards} == {
        name for name in shards if name.startswith("synthetic-")
    }
    assert names["main"] & shards == shards - names["synthetic"]
    plan = foreseen(read_flat(release), split=True)
    assert names == {role: {file.name for file in files} for role, files in plan.items()}


def test_the_card_tells_its_own_doi_and_the_other_one(two, role, card):
    records = two[1]["records"]
    twin = records["synthetic" if role == "main" else "main"]
    own = records[role]
    assert card.count("\n**This record holds the ") == 1
    assert f"**This record holds the {KIND[role]} tiles of “Tiny: tiles for tests”**" in card
    for record in (own, twin):
        for doi in (record["doi"], record["concept_doi"]):
            assert f"[{doi}](https://doi.org/{doi})" in card
    (block,) = re.findall(r"```bibtex\n(.*?)```", card, re.DOTALL)
    assert f"  doi = {{{own['doi']}}},\n" in block
    assert twin["doi"] not in block
    assert f"title = {{Tiny: tiles for tests ({KIND[role]})}}" in block
    assert f"DOI of this version: [{own['doi']}]" in card


def test_the_card_names_no_config_and_no_file_that_is_not_there(folder, card):
    front = yaml.safe_load(card.split("---\n")[1])
    configs = {groups["config_name"]: groups["data_files"] for groups in front["configs"]}
    expected = {"main": {"real", "metadata", "controls"}, "synthetic": {"synthetic"}}
    assert set(configs) == expected[folder.name]
    any_config = "|".join(CONFIGS)
    words = rf"`({any_config})` \||[Cc]onfig `?({any_config})\b|\), \"(\w+)\""
    named = {name for names in re.findall(words, card) for name in names if name}
    assert named == set(configs)
    files = re.findall(r"[\w./-]+\.(?:parquet|csv|png|json|md|cff)\b", card)
    assert len(files) > 10
    assert [path for path in files if not (folder / path).is_file()] == []


def paths_of(split: dict[str, Any]) -> list[str]:
    """The files of an entry of the card's data_files."""
    return [split["path"]] if isinstance(split["path"], str) else split["path"]


def test_rows_and_splits_of_the_card_are_those_of_the_files(folder, card):
    front = yaml.safe_load(card.split("---\n")[1])
    sizes = {
        (info["config_name"], split["name"]): split["num_examples"]
        for info in front["dataset_info"]
        for split in info["splits"]
    }
    held = {}
    for entry in front["configs"]:
        for split in entry["data_files"]:
            rows = sum(rows_of(folder, name) for name in paths_of(split))
            held[entry["config_name"], split["split"]] = rows
    assert sizes == held
    assert {
        name for config in front["configs"] for s in config["data_files"] for name in paths_of(s)
    } == {path.name for path in folder.glob("*.parquet")} - BESIDE
    kind = KIND[folder.name]
    tiles = sum(rows for (config, _), rows in held.items() if config == kind)
    assert f"\n{tiles} {kind} tiles of 64×64 pixels, " in card
    for (config, split), rows in held.items():
        (line,) = [row for row in card.splitlines() if row.startswith(f"| `{config}` | ")]
        place = ("train", "validation", "test").index(split)
        assert line.split(" | ")[1 + place] == str(rows)
    parts = re.findall(r"^\| (real|synthetic)(?:/\w+)? \|", card, re.MULTILINE)
    assert set(parts) == {kind}


def test_every_snippet_of_the_card_runs_where_the_files_were_downloaded_to(
    two, role, folder, card, tmp_path
):
    copy = Path(shutil.copytree(folder, tmp_path / "any name"))
    snippets = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(snippets) == {"main": 9, "synthetic": 6}[role]
    kind = KIND[role]
    code = "\n".join(
        [
            *snippets[:-1],
            "assert row['mask'].mode == 'P'",
            f"assert first['id'].startswith('{kind}/')",
            "print({name: split.num_rows for name, split in data.items()})",
            *(["assert len(subset['train']) and len(table) and len(shuffled)"] * (role == "main")),
        ]
    )
    environment = {"PATH": "", "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = run(code, copy, environment)
    (counts,) = re.findall(r"^\{.*\}$", done.stdout, re.MULTILINE)
    splits = read_manifest(two[0]).configs[kind]
    assert json.loads(counts.replace("'", '"')) == {
        name: split.rows for name, split in splits.items()
    }
    assert "rename" in snippets[-1]
    run(snippets[-1], copy, environment)
    assert violations(copy) == []
    run(snippets[0], copy, environment)


def run(code, folder, environment):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport os, sys\nsys.stdout.flush()\nos._exit(0)"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_links_and_pictures_of_the_card_are_there(folder, card):
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", card) if "://" not in target]
    assert len(targets) >= 2
    assert [target for target in targets if not (folder / target).is_file()] == []


def test_croissant_gives_every_row_and_names_nothing_else(two, role, folder):
    described = json.loads((folder / "croissant.json").read_text(encoding="utf-8"))
    objects = [entry for entry in described["distribution"] if entry["@type"] == "cr:FileObject"]
    assert {entry["contentUrl"] for entry in objects} == {
        shard.name for shard in folder.glob("*.parquet")
    }
    assert (
        described["identifier"]
        == described["url"]
        == f"https://doi.org/{two[1]['records'][role]['doi']}"
    )
    dataset = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    sets = {entry["@id"] for entry in described["recordSet"]} & set(CONFIGS)
    assert sets == set(read_manifest(folder).configs)
    kind = KIND[role]
    rows = sum(split.rows for split in read_manifest(folder).configs[kind].values())
    assert len(list(itertools.islice(dataset.records(kind), rows + 1))) == rows > 0


def test_citation_and_metadata_are_the_record_s_own(two, role, folder):
    records = two[1]["records"]
    own, twin = records[role], records["synthetic" if role == "main" else "main"]
    cff = yaml.safe_load((folder / "CITATION.cff").read_text(encoding="utf-8"))
    dois = [entry["value"] for entry in cff["identifiers"]]
    assert dois == [own["doi"], own["concept_doi"]]
    assert cff["references"][0]["doi"] == twin["doi"]
    tool = Path(sys.executable).with_name("cffconvert")
    subprocess.run([tool, "--validate", "--infile", str(folder / "CITATION.cff")], check=True)
    metadata = json.loads((folder / ".zenodo.json").read_text(encoding="utf-8"))
    links = {link["identifier"]: link["relation"] for link in metadata["related_identifiers"]}
    relation = "isSupplementedBy" if role == "main" else "isSupplementTo"
    assert links[twin["doi"]] == relation
    assert links["https://huggingface.co/datasets/someone/tiny"] == "isPartOf"
    assert own["metadata"]["title"] == metadata["title"] == f"Tiny: tiles for tests ({KIND[role]})"
    assert twin["doi"] in own["metadata"]["description"]
    assert own["doi"] not in (folder / ".zenodo.json").read_text(encoding="utf-8")


def test_the_release_itself_tells_of_both_records(two):
    release, outcome, _ = two
    records = outcome["records"]
    for name in ("README.md", "CITATION.cff"):
        text = (release / name).read_text(encoding="utf-8")
        assert records["main"]["doi"] in text
        assert records["synthetic"]["doi"] in text
    card = (release / "README.md").read_text(encoding="utf-8")
    assert "This record holds" not in card
    assert 'load_dataset("someone/tiny", "real")' in card
    assert violations(release) == []
    write_cards(release, synthetic_doi="")
    assert records["synthetic"]["doi"] not in (release / "README.md").read_text(encoding="utf-8")
