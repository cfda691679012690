"""Fixtures that several rooms share."""

import os
import signal

import pytest

from builder.pipeline.project import Project
from tests.makers.project import built_project

# As in builder.models, for tests that import torch first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell starts background jobs deaf to Ctrl-C, and so would be every command that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project that is built and packaged once and shared."""
    return built_project(tmp_path_factory.getbasetemp())
