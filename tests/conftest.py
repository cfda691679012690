"""Fixtures that several rooms share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.pipeline.project import Project
from tests.makers.project import built_project

# As in builder.models, for tests that import torch first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell starts background jobs deaf to Ctrl-C, and so would be every command that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def faked_gpus() -> Iterator[None]:
    """A local Ray runtime with two CPUs and two GPUs that are none."""
    import ray

    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    ray.init(
        address="local",  # whatever cluster this machine is part of
        num_cpus=2,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=100_000_000,
        runtime_env={"env_vars": path},
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny project that is built and packaged once and shared."""
    return built_project(tmp_path_factory.getbasetemp())
