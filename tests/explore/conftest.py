"""The page of the tiny release, and one headless Chromium for all its tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.explore.writer import open_page_source, write_site
from builder.pipeline.project import Project
from tests.makers.page import Page, driver, page_at

__all__ = ["driver"]


@pytest.fixture(scope="session")
def release(project: Project) -> Path:
    return project.releases / "0.1.0"


@pytest.fixture(scope="session")
def site(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the tiny release."""
    out = tmp_path_factory.mktemp("explore") / "page"
    write_site(open_page_source(str(release)), out, base="release/")
    return out


@pytest.fixture
def page(driver: Any, site: Path, release: Path) -> Iterator[Page]:
    with page_at(driver, {"/": site, "/release/": release}) as shown:
        yield shown
