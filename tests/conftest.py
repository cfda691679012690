"""Fixtures that several rooms share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# As in builder.models, for tests that import torch first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session")
def faked_gpus() -> Iterator[None]:
    """A local Ray runtime with two CPUs and two GPUs that are none."""
    import ray

    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    ray.init(
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
