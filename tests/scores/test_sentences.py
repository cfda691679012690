"""Grounding of sentences that were once misread: shares, sums, denials, places and synonyms."""

import numpy as np
import pytest

from builder.land.classes import CLASSES
from builder.land.prompts import place
from builder.scores.caption_scores import score_captions

SCENE = np.full((96, 96), CLASSES.index("Grass"), dtype=np.uint8)
SCENE[:16] = CLASSES.index("Tree")  # along the north edge
SCENE[80:, 80:] = CLASSES.index("Water")  # in the south-east corner
SCENE[40:56, 40:56] = CLASSES.index("Built-up")  # in the centre
IN_SCENE = {
    name: float(100 * (k == SCENE).mean()) for k, name in enumerate(CLASSES) if (k == SCENE).any()
}
GRASS = {"Grass": 100}


def score(text, percent, mask=None):
    shares = [percent.get(name, 0) / 100 for name in CLASSES]
    return score_captions([text], [shares], [mask]).to_pylist()[0]


@pytest.mark.parametrize(
    ("text", "percent", "named", "leak"),
    [
        ("0 % water, 100 % grass", GRASS, ["Grass"], 1),
        ("Trees (0%), grass (100%).", GRASS, ["Grass"], 1),
        ("zero percent water", GRASS, [], 0),
        ("one hundred percent grass", GRASS, ["Grass"], 1),
        ("between 20% and 30% of the tile is cropland", {"Crop": 25, "Grass": 75}, ["Crop"], 0),
        (
            "Cropland, trees and water account for 85%, 10% and 5%, respectively.",
            {"Crop": 85, "Tree": 10, "Water": 5},
            ["Crop", "Tree", "Water"],
            1,
        ),
        (
            "85%, 10% and 5% of the tile are cropland, trees and water.",
            {"Crop": 85, "Tree": 10, "Water": 5},
            ["Crop", "Tree", "Water"],
            1,
        ),
        (
            "Trees and shrubs together cover 40%",
            {"Tree": 25, "Shrub": 15, "Grass": 60},
            ["Tree", "Shrub"],
            0,
        ),
        (
            "Trees and shrubs each cover 40%",
            {"Tree": 40, "Shrub": 40, "Grass": 20},
            ["Tree", "Shrub"],
            2 / 3,
        ),
        (
            "Forest and grassland cover 40% and water 10%",
            {"Tree": 15, "Grass": 25, "Water": 10, "Crop": 50},
            ["Tree", "Grass", "Water"],
            1 / 4,
        ),
        (
            "Cropland and grassland cover most of the tile.",
            {"Crop": 55, "Grass": 40, "Tree": 5},
            ["Crop", "Grass"],
            0,
        ),
        ("Less than a third of the tile is water", {"Water": 10, "Grass": 90}, ["Water"], 0),
        ("More than two thirds of the image is forest", {"Tree": 95, "Grass": 5}, ["Tree"], 0),
        ("Over three quarters is grass", {"Grass": 95, "Tree": 5}, ["Grass"], 0),
        (
            "About one fifth cropland and four fifths grassland",
            {"Crop": 20, "Grass": 80},
            ["Crop", "Grass"],
            0,
        ),
        (
            "A sparsely built area of grassland",
            {"Grass": 97, "Built-up": 3},
            ["Built-up", "Grass"],
            0,
        ),
        ("Sparsely populated farmland", {"Crop": 95, "Built-up": 5}, ["Crop"], 0),
    ],
)
def test_shares_in_numbers_and_words(text, percent, named, leak):
    row = score(text, percent)
    assert row["accuracy"] == pytest.approx(1)
    assert row["coverage"] == pytest.approx(sum(percent[name] for name in named) / 100)
    assert row["mentioned"] == named
    assert row["fabricated"] == 0
    assert row["leak"] == pytest.approx(leak)


@pytest.mark.parametrize(
    ("text", "percent", "contradiction"),
    [
        (
            "Trees and shrubs together cover 40%",
            {"Tree": 40, "Shrub": 20, "Grass": 40},
            "Tree+Shrub 60 %, but “40%”",
        ),
        ("0 % water", {"Water": 50, "Grass": 50}, "Water 50 %, but “0 % water”"),
        (
            "Over three quarters is grass",
            {"Grass": 50, "Tree": 50},
            "Grass 50 %, but “over three quarters”",
        ),
        (
            "Less than a third is water",
            {"Water": 60, "Grass": 40},
            "Water 60 %, but “less than a third”",
        ),
        ("The forest is not dominant", {"Tree": 80, "Grass": 20}, "Tree 80 %, but “not dominant”"),
        ("Forest does not dominate", {"Tree": 80, "Grass": 20}, "Tree 80 %, but “not dominate”"),
    ],
)
def test_the_same_sentences_on_other_tiles_are_wrong(text, percent, contradiction):
    row = score(text, percent)
    assert row["accuracy"] < 1
    assert contradiction in row["contradictions"]


@pytest.mark.parametrize(
    "text",
    [
        "Water cannot be seen.",
        "A tile of grass without rivers or a lake.",
        "Water is nowhere to be seen.",
        "It doesn't contain any water.",
        "It doesn’t contain any water.",
        "We cannot see any buildings.",
        "Forests, lakes, and cities are missing.",
        "Water: none. Trees: none. Grass: all.",
        "A tree-free plain.",
        "The plain is bare of trees.",
        "None of the area is forested.",
        "The lake has dried up.",
    ],
)
def test_denials_are_absence(text):
    row = score(text, GRASS)
    assert row["accuracy"] == 1
    assert row["mentioned"] in ([], ["Grass"])
    assert score(text, {"Water": 35, "Tree": 35, "Built-up": 30})["accuracy"] < 0.5


@pytest.mark.parametrize(
    "text",
    [
        "Instead of forest, there is grass.",
        "Rather than forest and lakes, the tile shows grass.",
        "Grassland rather than forest dominates.",
        "Former farmland, now grass.",
        "Grass in place of a dried-up lake.",
        "Deforested land under grass.",
    ],
)
def test_what_is_set_aside_is_not_claimed(text):
    row = score(text, GRASS)
    assert (row["accuracy"], row["chair_i"], row["mentioned"]) == (1, 0, ["Grass"])


def test_who_is_not_dominant_is_there_all_the_same():
    row = score("The forest is not dominant.", {"Tree": 10, "Grass": 90})
    assert (row["accuracy"], row["mentioned"]) == (1, ["Tree"])


def test_many_is_a_quantity():
    accuracy = [score("Many trees", {"Tree": t, "Grass": 100 - t})["accuracy"] for t in (1, 5, 50)]
    assert accuracy == pytest.approx([0.8, 1, 1])


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("In the southeast lies a lake, and in the centre a town.", 1),
        ("In the upper left lies a lake, and in the southwest a town.", 1 / 4),
        ("The northern third is forest, the southern third holds water.", 1),
        ("The southern third is forest, the northern third holds water.", 0),
        ("Northern forest and southern lake.", 1),
        ("Southern forest and northern lake.", 0),
        ("A central village.", 1),
        ("Forest stretches across the top of the image.", 1),
        ("The upper quarter is forest.", 1),
        ("The southeastern corner is water.", 1),
        ("A lake in the south of the tile.", 1),
        ("Built-up land runs across the middle; urban land runs down the middle.", 1),
        ("Forest runs down the middle.", 1 / 2),
        ("Forest is spread over the tile.", 0),
        ("Urban land is spread over the tile.", 1),
        ("To the left of the lake is grassland.", None),
        ("In the middle of the village there is a lake.", None),
        ("Forest on northern slopes.", None),
    ],
)
def test_where_classes_are_said_to_lie(text, layout):
    value = score(text, IN_SCENE, SCENE)["layout"]
    assert value == (None if layout is None else pytest.approx(layout, abs=0.01))


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (np.s_[36:60, 36:60], "lies in the centre"),
        (np.s_[:48], "lies mostly in the north"),
        (np.s_[:, 48:], "lies mostly in the east"),
        (np.s_[48:, :48], "lies mostly in the south-west"),
        (np.s_[36:60], "runs across the middle"),
        (np.s_[:, 36:60], "runs down the middle"),
        (np.s_[::7, ::5], "is spread over the tile"),
    ],
)
def test_the_places_that_the_template_backend_names_are_checked(box, words):
    mask = np.full((96, 96), CLASSES.index("Grass"), dtype=np.uint8)
    mask[box] = CLASSES.index("Tree")
    assert place(mask == 0) == words
    share = 100 * float((mask == 0).mean())
    percent = {"Tree": share, "Grass": 100 - share}
    assert score(f"Forest {words}.", percent, mask)["layout"] == pytest.approx(1)
    elsewhere = np.full_like(mask, CLASSES.index("Grass"))
    elsewhere[-8:, :8] = CLASSES.index("Tree")
    if "west" not in words:
        assert score(f"Forest {words}.", percent, elsewhere)["layout"] == 0


@pytest.mark.parametrize(
    ("text", "accuracy", "contradictions"),
    [
        ("The southern part has no trees.", 1, []),
        ("There are no trees or crops in the lower right corner.", 1, []),
        ("No water in the upper left.", 1, []),
        ("No significant water in the southeast.", None, []),
        (
            "No vegetation in the centre.",
            0,
            ["vegetation 88.9 % there, but “no vegetation in the centre”"],
        ),
        (
            "No water in the southeast.",
            0,
            ["Water 11.1 % there, but “no water in the southeast”"],
        ),
        (
            "The northern part has no trees or water.",
            0.5,
            ["Tree 33.3 % there, but “no trees northern part”"],
        ),
    ],
)
def test_absence_in_a_part_is_judged_there(text, accuracy, contradictions):
    row = score(text, IN_SCENE, SCENE)
    assert (row["accuracy"], row["contradictions"]) == (accuracy, contradictions)
    assert score(text, IN_SCENE)["accuracy"] is None, "without a mask it claims nothing"


NAMES = {
    "Tree": ["a plantation", "oil palm plantations"],
    "Shrub": ["brushland", "chaparral"],
    "Grass": ["a wetland", "a marsh", "tundra", "a grassy field", "a sports field"],
    "Crop": [
        *("ploughed land", "plowed land", "fallow land", "irrigated land", "a single field"),
        *("wheat", "maize", "cereals", "a sugarcane plantation", "vineyards"),
    ],
    "Built-up": [
        *("a harbour", "a harbor", "greenhouses", "dwellings", "factories", "warehouses"),
        *("roads", "a road", "a dirt road", "infrastructure", "city blocks"),
    ],
    "Barren": ["rocks and soil", "a salt flat", "a lava field", "dry lake beds"],
    "Water": ["a canal", "an irrigation canal"],
    "": [
        *("deforested land", "field boundaries", "field of view", "missing data"),
    ],
}


@pytest.mark.parametrize(
    ("text", "name"), [(text, name) for name, texts in NAMES.items() for text in texts]
)
def test_synonyms_by_the_definitions_of_worldcover_and_the_default_remap(text, name):
    assert score(text, GRASS)["mentioned"] == ([name] if name else [])
