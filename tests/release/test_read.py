"""Every reader of a release says which file is missing or cut short."""

import os

import pytest

from builder.core.errors import ArasError
from builder.core.manifest import read_manifest
from builder.release.rows import real_rows
from builder.report.measure import images_of
from builder.retrieval.gallery import pictures
from tests.makers.bench_release import bench_release


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize(
    ("config", "reader"),
    [
        ("metadata", real_rows),
        ("real", lambda release: images_of(release, ["real/test/0"])),
        ("real", lambda release: list(pictures(release, ["real/test/0"], "test"))),
    ],
    ids=["metadata", "report", "bench"],
)
def test_a_file_that_is_missing_or_cut_short_is_named(tmp_path, config, reader, gone):
    release = bench_release(tmp_path / "release", train=2, synthetic=0, test=2)
    name = read_manifest(release).configs[config]["test"].files[0]
    if gone:
        (release / name).unlink()
    else:
        os.truncate(release / name, (release / name).stat().st_size - 100)
    why = "missing" if gone else "cannot be read"
    with pytest.raises(ArasError, match=f"{name}: {why}.*aras check"):
        reader(release)
