"""The scores of a caption: type, unit and meaning of each, and where it is shown.

The columns of the store and of releases, the summaries, the card, the report and the documents
all read this table. `builder.scores.caption_scores` computes those of the stage ``score``.
"""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

Where = Literal["release", "file", "card", "report", "histogram"]


@dataclass(frozen=True)
class ScoreColumn:
    """``shown``: in ``caption_scores`` of a release; as a mean in the summary of a file of captions
    (`aras score captions`), on the card and in the report; as a histogram in the report.

    ``stage`` adds it: score (from the text and the land cover; also a column of the file of
    scores), repeat or clip. ``title`` heads its column in tables where its name is too long.
    """

    type: pa.DataType
    meaning: str
    shown: tuple[Where, ...] = ("release",)
    unit: str = ""
    stage: Literal["score", "repeat", "clip"] = "score"
    title: str = ""


_SHARE, _COUNT, _NAMES = pa.float32(), pa.int32(), pa.list_(pa.string())
_QUANTITIES = pa.list_(pa.struct([("class", pa.string()), ("low", _SHARE), ("high", _SHARE)]))
_PLACES = pa.list_(
    pa.struct([("class", pa.string()), ("region", pa.string()), ("absent", pa.bool_())])
)

SCORE_COLUMNS: dict[str, ScoreColumn] = {
    "grounding": ScoreColumn(
        _SHARE,
        "Harmonic mean of accuracy and coverage; 0 for a caption that names no class. It rewards "
        "naming the classes that are there, and so a constant caption that names the usual ones; "
        "discrimination does not.",
        ("release", "file", "card", "report", "histogram"),
    ),
    "accuracy": ScoreColumn(
        _SHARE,
        "Mean over the types of claims (presence and absence, anywhere or in a part, are one type) "
        "of the mean value in each; null where nothing is claimed.",
        ("release", "file", "card", "report"),
    ),
    "coverage": ScoreColumn(
        _SHARE,
        "Sum of the shares of the classes that are named.",
        ("release", "file", "card", "report", "histogram"),
        unit="fraction",
    ),
    "chair_i": ScoreColumn(
        _SHARE,
        "Named classes that are absent / named classes.",
        ("release", "file", "card", "report"),
        unit="fraction",
    ),
    "discrimination": ScoreColumn(
        _SHARE,
        "Percentile of the own tile among reference tiles of its kind by the accuracy of the "
        "claims, ties shared: 0.5 on average for a caption that is the same on every tile, "
        "whatever it says.",
        ("release", "file", "card", "report", "histogram"),
    ),
    "discrimination_bits": ScoreColumn(
        _SHARE,
        "log2(reference tiles / those that the claims fit at least as well as the own tile), less "
        "its mean over the reference tiles: 0 on average for a caption that is the same on every "
        "tile.",
        ("release", "file", "report"),
        unit="bit",
        title="bits",
    ),
    "precision": ScoreColumn(_SHARE, "Named classes that are present / named classes.", ()),
    "recall": ScoreColumn(_SHARE, "Named classes that are present / present classes.", ()),
    "f1": ScoreColumn(
        _SHARE,
        "Harmonic mean of precision and recall of the named classes.",
        ("release", "file", "report"),
        title="F1",
    ),
    "tau_b": ScoreColumn(
        _SHARE,
        "Kendall's τ_b of the order of mention and descending shares.",
        ("release", "file", "report"),
        title="τ_b",
    ),
    "layout": ScoreColumn(
        _SHARE, "Mean value of the layout claims; null without a mask.", ("release", "report")
    ),
    "leak": ScoreColumn(
        _SHARE,
        "Present classes whose rounded percentage is in the text as a numeral / present classes.",
        ("release", "file", "card", "report", "histogram"),
        unit="fraction",
    ),
    "percentages": ScoreColumn(
        _COUNT, "Percentages stated in the text.", ("release", "report"), title="per cent"
    ),
    "fabricated": ScoreColumn(
        _COUNT,
        "Percentages stated that fit no class, no group and no sum that the text names.",
        ("release", "file", "report"),
    ),
    "fraction_words": ScoreColumn(_COUNT, 'Words such as "half" and "a quarter".', ()),
    "digits": ScoreColumn(pa.bool_(), "Whether there is a numeral.", ()),
    "n_words": ScoreColumn(_COUNT, "Words of the caption.", ("release", "file"), unit="word"),
    "unread": ScoreColumn(
        pa.bool_(),
        "Whether the text cannot be read: another language, or no letter. Every other score of it "
        "is null.",
        ("file",),
        unit="fraction",
    ),
    "mentioned": ScoreColumn(_NAMES, "Classes in order of mention."),
    "present": ScoreColumn(
        _NAMES, "Classes that the text says are there, in order of mention; as `mentioned`.", ()
    ),
    "absent": ScoreColumn(_NAMES, "Classes that the text says are nowhere in the tile.", ()),
    "dominant": ScoreColumn(
        pa.string(),
        "The class that the text says is the largest; null without one, or with several together.",
        (),
    ),
    "quantities": ScoreColumn(
        _QUANTITIES,
        "Shares that the text gives: class (several joined by +, for their sum), lowest and "
        "highest fraction of the tile.",
        (),
    ),
    "places": ScoreColumn(
        _PLACES,
        "Where the text says a class lies: class, region of the lexicon, and whether the class is "
        "said to be absent there.",
        (),
    ),
    "contradictions": ScoreColumn(_NAMES, "Every claim with a value below 0.5, in words."),
    "near_duplicate_cluster": ScoreColumn(
        pa.string(),
        "The first id of the rows whose captions in the stream nearly repeat each other; null for "
        "a caption of its own.",
        stage="repeat",
    ),
    "clip_cosine": ScoreColumn(
        _SHARE,
        "Cosine of the vectors of image and caption.",
        ("release", "report"),
        stage="clip",
        title="cosine",
    ),
    "clip_score": ScoreColumn(
        _SHARE,
        'CLIPScore, 2.5 · max(cosine, 0) (Hessel et al. 2021, without their prompt "A photo '
        'depicts").',
        ("release", "report"),
        stage="clip",
        title="CLIPScore",
    ),
    "clip_tokens": ScoreColumn(
        _COUNT,
        "Tokens of the whole caption, special ones included, by the CLIP's tokenizer or "
        "`tokenizer`.",
        ("release", "report"),
        unit="token",
        stage="clip",
        title="tokens",
    ),
    "clip_truncated": ScoreColumn(
        pa.bool_(),
        "More tokens than the model reads (77 for CLIP): the rest did not count.",
        ("release", "report"),
        stage="clip",
        title="cut",
    ),
}
"""Name → score, in the order of the columns. A new score is a line here, the file that computes it,
and a line in `builder.scores.caption_scores`; docs/how-to/add-a-caption-score.md."""


def scores_of(stage: str, where: Where | None = None) -> dict[str, ScoreColumn]:
    """The scores that ``stage`` adds; with ``where`` those of them that are shown there."""
    return {
        name: score
        for name, score in SCORE_COLUMNS.items()
        if score.stage == stage and (where is None or where in score.shown)
    }


def shown_in(where: Where) -> tuple[str, ...]:
    """Names of the scores that are shown there."""
    return tuple(name for name, score in SCORE_COLUMNS.items() if where in score.shown)


def released(stage: str) -> pa.StructType:
    """Type of the column that ``stage`` adds for a caption stream, and a release has."""
    return pa.struct([(name, score.type) for name, score in scores_of(stage, "release").items()])
