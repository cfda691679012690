"""What captions score on tiles that are not theirs: the nulls a grounding score is read against."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from builder.landcover import CLASSES
from builder.scores import lexicon as lexicons
from builder.scores.claim_table import read_claims
from builder.scores.grounding import score_claims, shares_of
from builder.scores.lexicon import Lexicon


def null_grounding(
    texts: Sequence[str | None],
    compositions: npt.ArrayLike,
    *,
    seed: int = 0,
    lexicon: Lexicon | None = None,
) -> dict[str, float | None]:
    """Mean grounding of captions on their ``own`` tile, ``shuffled`` over all tiles and
    ``shuffled_same_dominant``, over tiles of the same dominant class.

    ``compositions`` is (n, 7) shares as for `score_captions`; only rows with text and composition
    count, each exchanged once, in an order drawn from ``seed``. None where fewer than two rows
    can be exchanged.
    """
    lexicon = lexicon or lexicons.load()
    shares = shares_of(compositions, len(texts))
    usable = [i for i, text in enumerate(texts) if text and text.strip()]
    usable = [i for i in usable if not np.isnan(shares[i]).any()]
    shares = shares[usable]
    claims = read_claims([texts[i] for i in usable], lexicon)
    order = np.random.default_rng(seed).permutation(len(usable))
    everyone = np.full(len(usable), -1)
    if len(order) > 1:
        everyone[order] = np.roll(order, 1)
    alike = np.full(len(usable), -1)
    for k in range(len(CLASSES)):
        members = order[shares[order].argmax(axis=1) == k]
        if len(members) > 1:
            alike[members] = np.roll(members, 1)
    means: dict[str, float | None] = {}
    own = np.arange(len(usable))
    tiles = {"own": own, "shuffled": everyone, "shuffled_same_dominant": alike}
    for name, tile in tiles.items():
        given = np.where((tile >= 0)[:, None], shares[tile], np.nan)
        scores = score_claims(claims, given, None, lexicon)["grounding"]
        mean = scores.to_numpy()[tile >= 0].mean(dtype=np.float64) if (tile >= 0).any() else None
        means[name] = None if mean is None else float(mean)
    return means
