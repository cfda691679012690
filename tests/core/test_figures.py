"""Figures: the same numbers give the same bytes, and every series its colour."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from builder.core.figures import BLUE, GREY, Panel, Point, draw_points, panels, save


def colours(path: Path) -> set[str]:
    with Image.open(path) as image:
        counted = image.convert("RGB").getcolors(1 << 24)
    return {f"#{r:02X}{g:02X}{b:02X}" for _, (r, g, b) in counted}


def test_equal_points_make_equal_bytes_and_a_missing_value_draws_nothing(tmp_path: Path) -> None:
    for name, value in (("a", 3.0), ("b", 3.0), ("none", None)):
        figure, (axes,) = panels(4, 2)
        point = Point(value, None if value is None else (1.0, 5.0), (2.0, None))
        draw_points(axes, Panel("%", {"row": {"": point}}, {"": BLUE}))
        axes.get_lines()[-1].set_color(GREY)  # of the legend, which would be blue too
        save(figure, tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert BLUE in colours(tmp_path / "a.png")
    assert BLUE not in colours(tmp_path / "none.png")


def test_colours_are_known_without_matplotlib() -> None:
    code = "import builder.core.figures, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
