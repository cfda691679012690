"""The GPU's measuring script: run very small on the CPU, it measures all that it names."""

import dataclasses
from pathlib import Path

import pytest

from builder.models import autoencoder, generator
from scripts import bench_generate
from tests.makers.tiles import make_store


@pytest.mark.parametrize("kind", ["pixel", "latent"])
def test_a_profile_is_measured_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The gpu profile, with a smaller network of as many halvings that is not compiled."""
    for module in (generator, autoencoder):
        gpu = module.PROFILES["gpu"]
        small = dataclasses.replace(gpu, widths=(8, 8, 8, 8), layers=1)
        if isinstance(small, generator.Settings):
            small = dataclasses.replace(small, compile=False)
        monkeypatch.setitem(module.PROFILES, "gpu", small)
    store = make_store(tmp_path / "work", ["train"] * 4 + ["validation"])
    asked = f"--kind {kind} --steps 2 --batch 2 --crop 64 --tiles 2 --solver-steps 2".split()
    options = bench_generate.parser().parse_args(asked)
    rate = bench_generate.matmul_rate(seconds=0.01)
    told = bench_generate.measure(store, tmp_path / "models", options, rate)
    assert told["settings"]["kind"] == kind
    for one in (told["training"], told["autoencoder"]):
        if one:
            assert (one["steps"], one["batch"], one["crop"]) == (2, 2, 64)
            assert min(one["steps_per_second"], one["busy_percent"], one["peak_mb"]) > 0
    assert bool(told["autoencoder"]) == (kind == "latent")
    made = told["sampling"]
    assert (made["tiles"], made["solver_steps"]) == (2, 2)
    assert min(made["tiles_per_second"], made["flops_per_tile"], told["ratio"]) > 0
    lines = bench_generate.report(told).splitlines()
    assert len(lines) == (6 if kind == "latent" else 5)
    assert f"profile gpu, on {kind}s" in lines[0]
