"""A caption score in one file: the share of capital letters among the characters of a text."""

import numpy as np
import pyarrow as pa

from builder.land.score_columns import SCORE_COLUMNS, ScoreColumn
from builder.scores.grounding import Captions


def capitals(captions: Captions) -> pa.Array:
    texts = [text or " " for text in captions.texts]
    shares = [sum(map(str.isupper, text)) / len(text) for text in texts]
    return captions.counted(np.array(shares, np.float32), pa.float32())


def register() -> None:
    """What a line in `SCORE_COLUMNS` and one in `COMPUTED` do."""
    SCORE_COLUMNS["capitals"] = ScoreColumn(
        pa.float32(),
        "Share of capital letters among the characters.",
        ("release", "file", "card", "report", "histogram"),
        unit="fraction",
    )
    from builder.scores.caption_scores import COMPUTED

    COMPUTED["capitals"] = capitals
