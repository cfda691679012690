import numpy as np
import pytest
from PIL import Image

from builder.core.errors import ArasError
from builder.release.pictures import plot_shares

REAL = np.array([28.78, 0.84, 45.33, 17.99, 1.14, 4.22, 1.70]) / 100
EVEN = np.full(7, 1 / 7)


def colours(path):
    with Image.open(path) as image:
        return {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}


def test_each_series_is_drawn_in_its_colour(tmp_path):
    plot_shares(REAL, EVEN, EVEN, tmp_path / "shares.png")
    assert {(153, 153, 153), (0, 114, 178), (230, 159, 0)} <= colours(tmp_path / "shares.png")


def test_before_anything_is_generated_there_are_two_series(tmp_path):
    plot_shares(REAL, EVEN, None, tmp_path / "new" / "shares.png")
    drawn = colours(tmp_path / "new" / "shares.png")
    assert (0, 114, 178) in drawn
    assert (230, 159, 0) not in drawn


def test_bars_are_as_long_as_their_shares(tmp_path):
    plot_shares(np.array([0.6, 0.3, 0.1, 0, 0, 0, 0]), EVEN, None, tmp_path / "shares.png")
    with Image.open(tmp_path / "shares.png") as image:
        blue = (np.asarray(image.convert("RGB")) == (0, 114, 178)).all(axis=-1).sum(axis=1)
    starts = np.flatnonzero((blue[1:] > 0) & (blue[:-1] == 0))
    widths = blue[starts + 5]
    # The first is the legend's patch; shares of 0 have no bar.
    np.testing.assert_allclose(widths[1:] / widths[1], [1, 1 / 2, 1 / 6], atol=0.02)


def test_equal_numbers_make_equal_bytes(tmp_path):
    plot_shares(REAL, EVEN, REAL, tmp_path / "a.png")
    plot_shares(REAL, EVEN, REAL, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_shares_that_are_none_are_refused_and_leave_no_file(tmp_path):
    for wrong in (np.full(6, 1 / 6), 100 * REAL, np.full(7, np.nan), -EVEN):
        with pytest.raises(ArasError, match=r"planned shares are .* 7 shares that sum to 1"):
            plot_shares(REAL, wrong, None, tmp_path / "shares.png")
    assert list(tmp_path.iterdir()) == []
