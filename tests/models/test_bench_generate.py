"""The GPU's measuring script: run very small on the CPU, it measures all that it names."""

import dataclasses
from pathlib import Path

import pytest

from builder.models.settings import AUTOENCODER, GENERATOR, GeneratorSettings
from scripts import bench_generate
from tests.makers.tiles import make_store


@pytest.mark.parametrize("kind", ["pixel", "latent"])
def test_a_profile_is_measured_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The gpu profile, with a smaller network of as many halvings that is not compiled."""
    for profiles in (GENERATOR, AUTOENCODER):
        gpu = profiles["gpu"]
        small = dataclasses.replace(gpu, widths=(8, 8, 8, 8), layers=1)
        if isinstance(small, GeneratorSettings):
            small = dataclasses.replace(small, compile=False)
        monkeypatch.setitem(profiles, "gpu", small)
    store = make_store(tmp_path / "work", ["train"] * 4 + ["validation"])
    asked = f"--kind {kind} --steps 2 --batch 2 --crop 64 --tiles 2 --solver-steps 2".split()
    options = bench_generate.parser().parse_args(asked)
    rate = bench_generate.matmul_rate(seconds=0.01)
    report = bench_generate.measure(store, tmp_path / "models", options, rate)
    assert report["settings"]["kind"] == kind
    for training in (report["training"], report["autoencoder"]):
        if training:
            assert (training["steps"], training["batch"], training["crop"]) == (2, 2, 64)
            assert (
                min(training["steps_per_second"], training["busy_percent"], training["peak_mb"]) > 0
            )
    assert bool(report["autoencoder"]) == (kind == "latent")
    sampling = report["sampling"]
    assert (sampling["tiles"], sampling["solver_steps"]) == (2, 2)
    assert min(sampling["tiles_per_second"], sampling["flops_per_tile"], report["ratio"]) > 0
    lines = bench_generate.report(report).splitlines()
    assert len(lines) == (6 if kind == "latent" else 5)
    assert f"profile gpu, on {kind}s" in lines[0]
