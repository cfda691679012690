"""Every block of Python that a reader of the card, README or a how-to copies runs as it stands.

Run by ``make readers`` on the lowest and the newest versions that the card names. Blocks run as
they are written but for the names of places, which `LOCAL` puts on this machine.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.pipeline.project import Project
from builder.release.exports import Options, export
from builder.release.readers import environments
from tests.loopback.files import FileServer, file_server
from tests.readers.environments import ask

pytestmark = [pytest.mark.readers, pytest.mark.timeout(900)]

PROGRAM = Path(__file__).with_name("run_snippets.py")
ROOT = Path(__file__).parents[2]
OLDEST, *_, NEWEST = environments()
ENDS = (OLDEST, NEWEST)

LOCAL = {
    "openai/clip-vit-base-patch32": "mteb/baseline-random-encoder",  # which needs no torchvision
    "https://huggingface.co/datasets/someone/tiny/resolve/main": "SERVER",
    "hf://datasets/someone/tiny": "RELEASE",
    "someone/tiny": "RELEASE",
    "my-dataset/release/0.1.0": "RELEASE",
    "release/0.1.0": "RELEASE",
    "subsets/10k-balanced.csv": "subsets/mini.csv",
    'data_dir="folder"': 'data_dir="imagefolder"',
    "https://huggingface.co/datasets/my-lab/my-tiles/resolve/main": "SERVER",
    "my-lab/my-tiles": "RELEASE",
    '"stac/items.parquet"': '"RELEASE/stac/items.parquet"',
    'load_dataset("my-lab/my-tiles", "real", revision="0.1.0")': (
        'import datasets; datasets.load_dataset("RELEASE", "real")'
    ),
    '...  # (len(rows), d), of rows["image"]': "[[1.0, 0.0]] * len(rows)",
    "...  # (len(texts), d)": "[[1.0, 0.0]] * len(texts)",
    'datasets.load_dataset("release/0.1.0", "embeddings", split="test")': (
        'datasets.load_dataset("RELEASE", "metadata", split="test")'  # the tiny one has no vectors
    ),
}
"""What a document says → what it means here, the longest first; nothing else is replaced."""

PAGES = {
    "README.md": ENDS,
    "docs/how-to/use-the-official-release.md": ENDS,
    "docs/how-to/export-a-release.md": ("middle", NEWEST),  # as the page says
    "docs/how-to/benchmark-your-model.md": ENDS,
    "docs/how-to/publish-to-the-hub.md": ENDS,
    "docs/how-to/open-a-release-on-a-map.md": ("gis",),
}
"""Pages for readers of a release, and the environments that they are for."""


def blocks_of(page: str) -> list[str]:
    """The fenced blocks of Python of a Markdown text."""
    return re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def release(project: Project) -> Path:
    return project.releases / project.recipe.dataset.version


@pytest.fixture(scope="module")
def server(release: Path) -> Iterator[FileServer]:
    with file_server() as files:
        for path in release.rglob("*"):
            if path.is_file():
                files.put(f"/{path.relative_to(release).as_posix()}", path.read_bytes())
        yield files


def localised(block: str, release: Path, server: FileServer) -> str:
    """A block with its places on this machine."""
    names = sorted(LOCAL, key=len, reverse=True)
    places = {"RELEASE": str(release), "SERVER": server.url}
    local = re.sub("|".join(map(re.escape, names)), lambda match: LOCAL[match[0]], block)
    return re.sub("|".join(places), lambda match: places[match[0]], local)


@pytest.mark.parametrize("environment", ENDS)
def test_every_snippet_of_the_card_runs(
    release: Path, server: FileServer, environment: str, tmp_path: Path
) -> None:
    copy = tmp_path / "release"
    shutil.copytree(release, copy)
    blocks = blocks_of((release / "README.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 3
    groups = [[localised(block, copy, server)] for block in blocks]
    ask(environment, PROGRAM, cwd=copy, borrow=True, given=groups)


@pytest.mark.parametrize(
    ("page", "environment"), [(page, name) for page, names in PAGES.items() for name in names]
)
def test_every_snippet_of_the_pages_for_readers_runs(
    release: Path, server: FileServer, page: str, environment: str, tmp_path: Path
) -> None:
    export(release, tmp_path / "imagefolder", "imagefolder", Options())
    blocks = blocks_of((ROOT / page).read_text(encoding="utf-8"))
    assert blocks
    group = [localised(block, release, server) for block in blocks]
    ask(environment, PROGRAM, cwd=tmp_path, borrow=True, given=[group])
