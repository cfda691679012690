"""Two models on the same queries."""

from dataclasses import replace

import numpy as np
import pytest

from builder.core.errors import ArasError
from builder.retrieval import report
from builder.retrieval.benchmark import Model, compare, ranks_path, run, write
from builder.retrieval.gallery import load
from builder.retrieval.protocol import Settings
from tests.makers.bench_release import bench_release

QUICK = Settings(resamples=50)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return load(bench_release(tmp_path_factory.mktemp("release"), train=6, synthetic=0, test=14))


def test_compare_needs_the_same_queries_and_finds_who_is_better(rows, tmp_path):
    for spec in ("composition", "random"):
        write(run(rows, Model(spec), ["words"], QUICK), tmp_path / f"{spec}.json")
    comparison = compare(tmp_path / "composition.json", tmp_path / "random.json")
    better = comparison.streams["words"]["mR"]
    assert better.difference > 0
    assert better.interval[0] > 0
    assert "| mR | +" in report.comparison(comparison)
    assert "Not compared" not in report.comparison(comparison)
    write(run(rows, Model("random"), ["words", "numbers"], QUICK), tmp_path / "both.json")
    one_sided = compare(tmp_path / "composition.json", tmp_path / "both.json")
    assert one_sided.not_compared == ("numbers", "all")
    assert report.comparison(one_sided).endswith("same captions: numbers, all")
    fewer = replace(rows.take(np.arange(8)), facts=rows.facts.plus(ids_sha256="other"))
    write(run(fewer, Model("random"), ["words"], QUICK), tmp_path / "fewer.json")
    with pytest.raises(ArasError, match="answered other queries: ids_sha256"):
        compare(tmp_path / "composition.json", tmp_path / "fewer.json")


def test_ranks_that_are_not_the_results_own_are_refused(rows, tmp_path):
    write(run(rows, Model("random"), ["words"], QUICK), tmp_path / "a.json")
    write(run(rows, Model("composition"), ["words"], QUICK), tmp_path / "b.json")
    ranks_path(tmp_path / "b.json").replace(ranks_path(tmp_path / "a.json"))
    with pytest.raises(ArasError, match="not the ranks that"):
        compare(tmp_path / "a.json", tmp_path / "a.json")
