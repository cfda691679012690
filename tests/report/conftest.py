"""The tiny project that is built and packaged once and shared."""

import pytest

from builder.pipeline import Project
from tests.makers.project import built_project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return built_project(tmp_path_factory.getbasetemp())
