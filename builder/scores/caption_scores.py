"""How each score of a caption is computed from its text and the land cover of its tile."""

from collections.abc import Callable, Sequence

import numpy.typing as npt
import pyarrow as pa

from builder.land.score_columns import scores_of
from builder.scores import lexicon as lexicons
from builder.scores import readings
from builder.scores.grounding import (
    COUNT,
    Captions,
    Masks,
    contradictions,
    mentioned,
    tau_b,
    unread,
)
from builder.scores.lexicon import Lexicon
from builder.scores.references import Reference

COMPUTED: dict[str, Callable[[Captions], pa.Array]] = {
    "grounding": lambda captions: captions.measured(captions.grounding),
    "accuracy": lambda captions: captions.measured(captions.accuracy),
    "coverage": lambda captions: captions.measured(captions.coverage),
    "chair_i": lambda captions: captions.measured(1 - captions.agreement([captions.named])),
    "discrimination": lambda captions: captions.measured(captions.ranking.percentile),
    "discrimination_bits": lambda captions: captions.measured(captions.ranking.bits),
    "precision": lambda captions: captions.measured(captions.agreement([captions.named])),
    "recall": lambda captions: captions.measured(captions.agreement([captions.present])),
    "f1": lambda captions: captions.measured(
        captions.agreement([captions.named, captions.present])
    ),
    "tau_b": tau_b,
    "layout": lambda captions: captions.measured(captions.means[:, 3]),
    "leak": lambda captions: captions.measured(captions.numerals[0]),
    "percentages": lambda captions: captions.counted(
        captions.per_caption(captions.claims.percent_row)
    ),
    "fabricated": lambda captions: captions.measured(captions.numerals[1], COUNT),
    "fraction_words": lambda captions: captions.counted(captions.claims.fractions),
    "digits": lambda captions: captions.counted(
        captions.per_caption(captions.claims.number_row) > 0, pa.bool_()
    ),
    "n_words": lambda captions: captions.counted(captions.claims.length),
    "unread": unread,
    "mentioned": mentioned,
    "present": mentioned,
    "absent": readings.absent,
    "dominant": readings.dominant,
    "quantities": readings.quantities,
    "places": readings.places,
    "contradictions": contradictions,
}
"""Score of the stage ``score`` → its column, one value a caption. `builder.land.score_columns`
says what a score is and where it is shown."""

SCORES = pa.schema([(name, score.type) for name, score in scores_of("score").items()])
"""Columns of `score_captions`; docs/caption-scores.md says what each means."""


def score_captions(
    texts: Sequence[str | None],
    compositions: npt.ArrayLike | None,
    masks: Masks | None = None,
    *,
    lexicon: Lexicon | None = None,
    reference: Reference | None = None,
    scores: pa.Schema = SCORES,
) -> pa.Table:
    """Score n captions against the compositions of their tiles; columns as in ``scores``.

    ``compositions`` is (n, 7) shares in class order that sum to 1; a row of NaN, or None for all,
    is a tile without composition, and what depends on it is null, never zero. ``masks`` are
    (H, W) uint8 class ids, or None, for the layout claims, which count only where there is a
    mask. ``reference`` holds the tiles that discrimination ranks the own tile among, else the
    built-in ones. Pure and deterministic; a caption's scores do not depend on its neighbours.

    Raises ArasError naming the row whose shares are not a composition.
    """
    captions = Captions.read(texts, compositions, masks, lexicon or lexicons.load(), reference)
    return pa.Table.from_arrays([COMPUTED[name](captions) for name in scores.names], schema=scores)
