"""The coastlines of the page: cut from an atlas, and those that are shipped."""

import json
from pathlib import Path

import pytest

from scripts import write_coastline


def test_arcs_become_rings_in_hundredths_of_a_degree(tmp_path, monkeypatch, capsys) -> None:
    atlas = {
        "transform": {"scale": [0.5, 0.25], "translate": [-1, 2]},
        "arcs": [[[0, 0], [4, 0], [0, 4]], [[0, 0], [0, 4], [4, 0]]],
        "objects": {"land": {"geometries": [{"type": "Polygon", "arcs": [[0, -2]]}]}},
    }
    (tmp_path / "land-110m.json").write_text(json.dumps(atlas))
    (tmp_path / "LICENSE").write_text("Free.")
    folder = str(tmp_path)
    monkeypatch.setattr("sys.argv", ["write_coastline", "--atlas", folder, "--out", folder])
    write_coastline.main()
    rings = json.loads((tmp_path / "coast.json").read_text())
    assert rings == [[-100, 200, 100, 200, 100, 300, -100, 300, -100, 200]]
    assert (tmp_path / "LICENSES.txt").read_text().endswith("Free.")
    assert capsys.readouterr().out == "1 rings, 5 points\n"


def test_the_shipped_coastlines_are_closed_and_on_the_globe() -> None:
    site: Path = write_coastline.SITE
    rings = json.loads((site / "coast.json").read_text())
    assert len(rings) > 100
    for ring in rings:
        assert ring[:2] == pytest.approx(ring[-2:], abs=1)
        assert all(abs(x) <= 18000 for x in ring[::2])
        assert all(abs(y) <= 9000 for y in ring[1::2])
    assert "public domain" in (site / "LICENSES.txt").read_text().replace("\n", " ")
