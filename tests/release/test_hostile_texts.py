"""A release whose texts try to be markup is packaged, shown, loaded and listed as any other."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from click.testing import CliRunner
from markdown_it import MarkdownIt

from builder.cli import cli
from builder.core.errors import ArasError
from builder.core.escape import one_line
from builder.core.manifest import read_manifest
from builder.pipeline.project import Project
from builder.release.card import write_cards
from builder.release.check import violations
from tests.makers.damage import copy_of, restamp

TITLE = (
    'Tiles: "a" | <img src=x onerror=alert(1)> [b](https://example.org) `c` \x1b[31m#1\n---\nd: *e*'
)
CAPTION = "=HYPERLINK(1) | <script>x</script> ![p](https://example.org/p.png) `q`\n\n# Heading"
MODEL = "lab/model|<b>`x` \x1b]0;owned\x07"


@pytest.fixture(scope="module")
def release(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = copy_of(project.releases / "0.1.0", tmp_path_factory.mktemp("hostile"))

    def edit(manifest: dict[str, Any]) -> None:
        manifest["title"] = TITLE
        manifest["license"] = "MIT\nowner: me"
        manifest["authors"] = [{"name": "Doe, J. {\\} % | <i>\nK", "affiliation": "- a: [b"}]
        for example in manifest["facts"]["census"]["examples"].values():
            example["captions"] = [
                {**c, "text": CAPTION, "model": MODEL} for c in example["captions"]
            ]
        for source in manifest["facts"]["sources"]:
            source["name"] = "Maps <a> | [x](javascript:1)"

    restamp(copy, edit)
    write_cards(copy)
    return copy


@pytest.fixture(scope="module")
def page(release: Path) -> str:
    text = (release / "README.md").read_text(encoding="utf-8")
    return (
        MarkdownIt("commonmark", {"html": True}).enable("table").render(text.split("\n---\n", 1)[1])
    )


def test_the_card_shows_the_texts_and_runs_none_of_them(page: str) -> None:
    tags = set(re.findall(r"<([a-z]\w*)", page))
    assert not tags & {"script", "b", "i"}
    assert re.findall(r'<img src="([^"]+)"', page) == [
        name for name in re.findall(r'<img src="([^"]+)"', page) if name.startswith("pictures/")
    ]
    assert "javascript:" not in "".join(re.findall(r'href="([^"]*)"', page))
    assert page.count("<h1>") == 1
    assert "Heading</h1>" not in page


def test_the_yaml_of_the_card_holds_the_title_on_one_line(release: Path) -> None:
    front = yaml.safe_load((release / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert front["pretty_name"] == one_line(TITLE)
    assert "owner" not in front


def test_the_release_is_loaded_and_passes_every_check(release: Path) -> None:
    data = datasets.load_dataset(str(release), "metadata", split="train", streaming=True)
    assert next(iter(data))["id"]
    assert violations(release) == []


def test_citation_and_zenodo_hold_the_texts_as_values(release: Path) -> None:
    citation = yaml.safe_load((release / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["title"] == TITLE
    assert citation["license"] == "MIT\nowner: me"
    assert json.loads((release / ".zenodo.json").read_text(encoding="utf-8"))["title"] == TITLE
    assert "\x1b" not in (release / "LICENSE").read_text(encoding="utf-8")


def test_the_command_line_acts_on_nothing_of_them(release: Path) -> None:
    run = CliRunner().invoke(cli, ["check", str(release)])
    assert run.exit_code == 0, run.output
    run = CliRunner().invoke(cli, ["check", str(release / "\x1b[2Jnowhere")])
    assert run.exit_code == 2
    assert "\\u001b[2Jnowhere" in run.output
    assert "\x1b" not in run.output


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(version="\x1b[2J9"),
        lambda value: value.update(name='tiny"]; import os'),
        lambda value: value["configs"].update({'real"); import os; ("': {}}),
        lambda value: value["facts"]["recipe"]["release"].update(repo='a/b"); import os; ("'),
        lambda value: first_caption(value).update(stream='full"]; import os; ["'),
    ],
    ids=["version", "name", "config", "repo", "stream"],
)
def test_a_name_that_would_go_into_code_or_a_path_is_refused(
    release: Path, tmp_path: Path, change: Callable[[Any], object]
) -> None:
    manifest = json.loads((release / "manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ArasError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def first_caption(manifest: Any) -> Any:
    return manifest["facts"]["census"]["examples"]["real"]["captions"][0]
