"""Every reader of a release says which file is missing or cannot be decoded."""

import pytest
from click.testing import CliRunner

from builder.cli import cli
from builder.core.errors import ArasError
from builder.core.manifest import read_manifest
from builder.release.rows import real_rows
from builder.report.measure import images_of
from builder.retrieval.gallery import pictures
from tests.makers.bench_release import bench_release
from tests.makers.damage import copy_of, cut_short, spoil_pages

READERS = {
    "metadata": ("metadata", real_rows),
    "report": ("real", lambda release: images_of(release, ["real/test/0"])),
    "bench": ("real", lambda release: list(pictures(release, ["real/test/0"], "test"))),
}


@pytest.mark.parametrize("damage", [None, cut_short, spoil_pages])
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_missing_or_damaged_is_named(tmp_path, reader, damage):
    config, read = READERS[reader]
    release = bench_release(tmp_path / "release", train=2, synthetic=0, test=2)
    name = read_manifest(release).configs[config]["test"].files[0]
    if damage:
        (release / name).write_bytes(damage((release / name).read_bytes()))
    else:
        (release / name).unlink()
    why = (
        r"pyarrow [\d.]+ cannot decode it \(.*fetch the file again" if damage else "missing; `aras"
    )
    with pytest.raises(ArasError, match=f"{name}: {why}"):
        read(release)


@pytest.mark.parametrize(
    "command",
    ["diff {0} {1}", "report {0}", "get {0} {2}", "export {0} --layout geotiff --to {2}",
     "export {0} --layout webdataset --to {2}", "bench retrieval {0} --model bm25"],
)  # fmt: skip
def test_every_command_names_a_damaged_file_in_a_line(project, tmp_path, command):
    whole = project.releases / "0.1.0"
    release = copy_of(whole, tmp_path)
    for splits in read_manifest(release).configs.values():
        for name in (name for part in splits.values() for name in part.files):
            (release / name).write_bytes(spoil_pages((release / name).read_bytes()))
    words = command.format(release, whole, tmp_path / "out").split()
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2, result.output
    assert "-00001.parquet: pyarrow" in result.stderr
    assert isinstance(result.exception, SystemExit)
