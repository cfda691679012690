"""Kinds of free text that the reader once misread, one sentence a kind, and text that is none."""

import pytest

from builder.scores.caption_scores import score_captions

VEGETATION = {"Tree", "Shrub", "Grass", "Crop"}
ALL = VEGETATION | {"Built-up", "Barren", "Water"}
SHARES = [0.5, 0, 0, 0.5, 0, 0, 0]


def read(text):
    return score_captions([text], None).to_pylist()[0]


@pytest.mark.parametrize(
    ("text", "present"),
    [
        ("A wind farm beside a fish farm.", ["Built-up", "Water"]),
        ("A water tower in an oil field.", ["Built-up"]),
        ("A sea of houses.", ["Built-up"]),
        ("It was once a lake; today it is a car park.", ["Built-up"]),
        ("The forest has given way to a shopping mall.", ["Built-up"]),
        ("There is no shortage of trees.", ["Tree"]),
        ("The meadow became a car park.", ["Built-up"]),
        ("The river turned into the valley.", ["Water"]),
        ("Half of the forest was converted to farmland.", ["Tree", "Crop"]),
        ("Streams of commuters fill the station.", ["Built-up"]),
        ("Had there been trees, the sand would not be visible.", ["Barren"]),
        ("None of the pasture has been ploughed.", ["Grass"]),
        ("Neither the lake nor the forest is large.", ["Water", "Tree"]),
        ("Tree nurseries and sod farms.", ["Tree", "Grass"]),
    ],
)
def test_compounds_figures_of_speech_and_the_past(text, present):
    assert read(text)["present"] == present


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [
        ("Nothing but sand.", {"Barren"}, ALL - {"Barren"}),
        ("Only rock and ice; no roads.", {"Barren"}, ALL - {"Barren"}),
        ("Apart from a barn, the tile is meadow.", {"Built-up", "Grass"}, None),
        ("No vegetation apart from a few palms.", {"Tree"}, VEGETATION - {"Tree"}),
        ("A treeless, waterless steppe.", {"Grass"}, {"Tree", "Water"}),
        ("A village with trees scattered throughout.", {"Built-up", "Tree"}, set()),
        ("Fields, only partly wooded.", {"Crop", "Tree"}, set()),
        ("Everything but the pond is lawn.", {"Water", "Grass"}, None),
        ("Forest covers everything but the lake.", {"Tree", "Water"}, None),
        ("Everything except water is missing.", {"Water"}, None),
        ("The island is all beach and palms.", {"Barren", "Tree"}, None),
        ("The roads are all paved.", {"Built-up"}, set()),
        ("They are all trees.", {"Tree"}, set()),
        ("Trees are missing, and so is grass.", set(), {"Tree", "Grass"}),
        ("There are no trees, and neither are there any fields.", set(), {"Tree", "Crop"}),
        ("Only water is missing.", set(), {"Water"}),
        ("The only thing missing from the village is a lake.", {"Built-up"}, {"Water"}),
        (
            "Fields but no trees, and a river but no houses.",
            {"Crop", "Water"},
            {"Tree", "Built-up"},
        ),
        ("No trees, water, and buildings.", set(), {"Tree", "Water", "Built-up"}),
        ("The tile has no crops, and water only in the south.", {"Water"}, {"Crop"}),
        ("None of the trees are visible.", set(), {"Tree"}),
        ("A car park without a speck of green.", {"Built-up"}, VEGETATION),
    ],
)
def test_what_is_all_there_is_leaves_the_others_out(text, present, absent):
    row = read(text)
    assert set(row["present"]) == present
    assert set(row["absent"]) == (ALL - present if absent is None else absent)


@pytest.mark.parametrize(
    ("text", "name", "share"),
    [
        ("0.62 of the area is forest.", "Tree", 0.62),
        ("Arable (72), pasture (28)", "Grass", 0.28),
        ("60/40 buildings/trees", "Tree", 0.4),
        ("1/3 of the tile is lake", "Water", 0.333),
        ("A third is forest, the rest is water.", "Water", 0.667),
        ("Crop 80 %, and the remainder is grass.", "Grass", 0.2),
        ("Trees and grass share the tile evenly.", "Grass", 0.5),
        ("The left half is bay.", "Water", 0.5),
        ("The left half is covered by water, the right half by sand.", "Barren", 0.5),
        ("A tenth is road, almost everything else is grass.", "Grass", 0.85),
    ],
)
def test_shares_come_in_many_forms(text, name, share):
    intervals = [q for q in read(text)["quantities"] if q["class"] == name]
    assert any(q["low"] - 0.02 <= share <= q["high"] + 0.02 for q in intervals)
    assert all(q["low"] > share - 0.2 for q in intervals)


def test_a_share_of_something_without_a_class_leaves_the_rest_less():
    (rest,) = [
        q
        for q in read("Roofs take half, bins a quarter, and what is left is lake.")["quantities"]
        if q["class"] == "Water"
    ]
    assert rest["low"] < 0.25 < rest["high"]


@pytest.mark.parametrize(
    ("text", "dominant"),
    [
        ("There is more lake than forest.", "Water"),
        ("Trees are outnumbered by rooftops.", "Built-up"),
        ("Grass exceeds shrub, which exceeds sand.", "Grass"),
        ("Crops take the lion's share.", "Crop"),
        ("Trees are the most common thing here.", "Tree"),
        ("No cover is as common as grass.", "Grass"),
        ("The most common building is a barn.", None),
        ("More lake than forest, and some houses.", None),
        ("The lower half is dominated by a lake.", None),
        ("Most of the trees are young.", None),
    ],
)
def test_comparisons_name_the_largest_only_where_nothing_else_could_be(text, dominant):
    assert read(text)["dominant"] == dominant


@pytest.mark.parametrize(
    "text",
    [
        "Überwiegend Wald, dazu ein kleines Dorf.",
        "Forêt dense à gauche, champs cultivés à droite.",
        "Im Sand stehen drei Häuser, und rechts ist ein Fluss.",
        "森林和河流",
        "غابة ونهر",
    ],
)
def test_another_language_is_unread_not_wrong(text):
    row = score_captions([text], [SHARES]).to_pylist()[0]
    assert row["grounding"] is row["contradictions"] is row["present"] is None


@pytest.mark.parametrize("text", ["12 34", "🌳🌳🏠", "forest", "forest 🌳", "word " * 10_000])
def test_odd_text_is_read(text):
    row = score_captions([text], [SHARES]).to_pylist()[0]
    assert row["present"] == (["Tree"] if "forest" in text else [])
    assert row["contradictions"] == []
