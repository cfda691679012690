"""Reading captions: what their words claim, on the sentences that captioners really write."""

import csv
import sys
from pathlib import Path

import pytest

from builder.land.classes import CLASSES
from builder.scores import lexicon as lexicons
from builder.scores.claims import ABSENCE, DOMINANCE, LAYOUT, PRESENCE, QUANTITY, read

LEXICON = lexicons.load()
REAL = Path(__file__).parents[2].parent / "shared" / "data" / "aras400k_captions"
TREE, SHRUB, GRASS, CROP, BUILT, BARREN, WATER = (1 << k for k in range(7))
VEGETATION = TREE | SHRUB | GRASS | CROP


def claims(text, kind):
    read_claims = read(text, LEXICON).claims
    return {(bits, low, high) for k, bits, low, high in read_claims if k == kind}


def named(text):
    return {bits for bits, _, _ in claims(text, PRESENCE)}


def quantities(text):
    return {(bits, round(low, 4), round(high, 4)) for bits, low, high in claims(text, QUANTITY)}


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("Forested hills with farmland and a village.", {TREE, CROP, BUILT}),
        ("A river and its valley.", {WATER}),
        ("A river valley with a dry riverbed.", {BARREN}),
        ("An arid, semi-arid, rugged landscape.", set()),
        ("Urban development.", {BUILT}),
        ("Sparse vegetation.", set()),
        ("Grass-covered steppe.", {GRASS}),
        ("**Built-up** areas\n- `croplands`", {BUILT, CROP}),
        ("Non-vegetated and non-agricultural land.", set()),
        ("A light-coloured field boundary.", set()),
        ("Deforested? No: treetops.", set()),
    ],
)
def test_which_classes_a_caption_names(text, classes):
    assert named(text) == classes


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("No visible water.", {WATER}),
        ("without trees, buildings or lakes", {TREE, BUILT, WATER}),
        ("Water is absent.", {WATER}),
        ("Neither forest nor cropland is visible.", {TREE, CROP}),
        ("There are no signs of urban development.", {BUILT}),
        ("No water and a dense forest.", {WATER}),
        ("Not only forest.", set()),
        ("A city without a park, a river or a tree.", {WATER, TREE}),
        ("neither grass on its floor nor bushes on its rim", {GRASS, SHRUB}),
        ("The meadow is not entirely free of trees.", set()),
        ("It is not true that there are no trees.", set()),
        ("No clouds obscure the sea.", set()),
        ("Snow-free meadows.", set()),
        ("treeless except along the stream", {TREE}),
        ("no trees except along the stream", set()),
    ],
)
def test_what_a_caption_denies(text, classes):
    assert {bits for bits, _, _ in claims(text, ABSENCE)} == classes
    assert not named(text) & classes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("limited cropland", {(CROP, 0.001, 0.2)}),
        ("Grass cover is minimal.", {(GRASS, 0, 0.05)}),
        ("Built-up and barren areas are minimal.", {(BUILT, 0, 0.05), (BARREN, 0, 0.05)}),
        ("minimal crop, built-up, and barren land", {(b, 0, 0.05) for b in (CROP, BUILT, BARREN)}),
        ("small patches of grass", {(GRASS, 0.001, 0.2)}),
        ("patches of grass", {(GRASS, 0.005, 0.35)}),
        ("interspersed with extensive forest", {(TREE, 0.25, 1)}),
        ("Croplands cover most of the terrain.", {(CROP, 0.5, 1)}),
        ("most of the area is covered by shrubs", {(SHRUB, 0.5, 1)}),
        ("Half of the tile is cropland and a quarter is forest.",
         {(CROP, 0.4, 0.6), (TREE, 0.15, 0.35)}),
        ("sparse vegetation", {(VEGETATION, 0.001, 0.35)}),
        ("small fields", set()),
        ("a few large fields", set()),
        ("half of the houses", set()),
        ("A tenth is road, a fifth wood.", {(BUILT, 0.05, 0.15), (TREE, 0.1, 0.3)}),
        ("Forest a third, lake two thirds.", {(TREE, 0.233, 0.433), (WATER, 0.567, 0.767)}),
        ("Half grass, a quarter houses, a quarter road.", {(GRASS, 0.4, 0.6), (BUILT, 0.3, 0.7)}),
        ("little to no vegetation", {(VEGETATION, 0, 0.05)}),
        ("no significant water bodies", {(WATER, 0, 0.1)}),
        ("a small settlement and a lake", {(BUILT, 0.001, 0.2)}),
        ("minimal grass, and forest dominates", {(GRASS, 0, 0.05), (TREE, 0.4, 1)}),
        ("The scene is entirely covered by dense, green forest.", {(TREE, 0.9, 1)}),
    ],
)  # fmt: skip
def test_what_quantity_words_claim(text, expected):
    assert quantities(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("extensive forest (86%) and grass (14%)", {(TREE, 86), (GRASS, 14)}),
        ("79% grassland with 15% tree cover", {(GRASS, 79), (TREE, 15)}),
        ("Grassland, covering 86% of the area, with some water.", {(GRASS, 86)}),
        ("90% of the area is covered by crops", {(CROP, 90)}),
        ("96% coverage of crops", {(CROP, 96)}),
        ("a small percentage (2%) of barren land", {(BARREN, 2)}),
        ("crops dominating at 71%", {(CROP, 71)}),
        ("Built-up and barren land at 1% each.", {(BUILT, 1), (BARREN, 1)}),
        ("Tree: 15% Grass: 79%", {(TREE, 15), (GRASS, 79)}),
        ("Forest covers 50%; over here 70%.", {(TREE, 50)}),
    ],
)
def test_whose_percentage_a_number_is(text, expected):
    exact = {
        (bits, round(50 * (low + high)))
        for bits, low, high in quantities(text)
        if round(high - low, 6) == 0.01
    }
    assert exact == expected


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("over 80% forest", (0.795, 1)),
        ("less than 5% forest", (0, 0.055)),
        ("about 40% forest", (0.35, 0.45)),
        ("10-15% forest", (0.095, 0.155)),
        ("forest (12.5%)", (0.1245, 0.1255)),
    ],
)
def test_bounds_and_rounding_of_percentages(text, interval):
    assert quantities(text) == {(TREE, *interval)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("predominantly forested", {(TREE, 1)}),
        ("dominated by dense, old forest", {(TREE, 1)}),
        ("Forest dominates the north.", set()),
        ("Water is not the dominant class, trees are.", {(TREE, 1)}),
        ("More of it is grass than anything else.", {(GRASS, 1)}),
        ("The trees are mostly oaks.", set()),
        ("A road leads to the farm.", set()),
        ("Grassland and cropland dominate.", {(GRASS, 2), (CROP, 2)}),
        ("dominated by fields and forested areas", {(CROP, 2), (TREE, 2)}),
        ("The dominant land use is agriculture.", {(CROP, 1)}),
        ("agriculture as the primary land use", {(CROP, 1)}),
        ("predominantly arid, where grasslands grow", set()),
        ("not dominated by forest", set()),
        ("dominated by sparsely vegetated hills", set()),
        ("forest, where natural terrain dominates", set()),
    ],
)
def test_what_is_said_to_dominate(text, expected):
    assert {(bits, int(low)) for bits, low, _ in claims(text, DOMINANCE)} == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a settlement in the upper left corner", {(BUILT, "upper left")}),
        ("In the north-west, a lake.", {(WATER, "upper left")}),
        ("Fields lie along the northern edge.", {(CROP, "upper edge")}),
        ("The northern half is forested.", {(TREE, "upper")}),
        ("Forest on steep upper slopes.", set()),
    ],
)
def test_where_a_class_is_said_to_be(text, expected):
    regions = {(bits, LEXICON.regions[int(low)][0]) for bits, low, _ in claims(text, LAYOUT)}
    assert regions == expected


def test_any_text_can_be_read():
    long = read("dense forest, 5% water and " * 2_500, LEXICON)
    assert long.words == 12_500
    assert len(long.claims) < 20, "the same claim made often counts once"
    for text in ("", "\0\0", "🌲" * 100, "((((%%%", "%", "5", "no", "and and and", "of " * 50):
        assert read(text, LEXICON).claims == {}
    assert named("dense\0forest") == {TREE}


def test_reading_time_grows_with_the_length_of_the_text():
    def calls(copies):
        """Calls of functions, of Python's and of C's, that reading takes."""
        counted = 0

        def count(frame, event, argument):
            nonlocal counted
            counted += event in ("call", "c_call")

        text = "limited crops, grass and trees dominate 5% of the area, " * copies
        sys.setprofile(count)
        try:
            read(text, LEXICON)
        finally:
            sys.setprofile(None)
        return counted

    assert calls(800) < 4.5 * calls(200)


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared caption rows are not here")
def test_real_leaky_captions_state_the_composition_they_were_given():
    stated = right = 0
    for file in sorted(REAL.glob("*.csv")):
        for row in csv.DictReader(file.open(encoding="utf-8")):
            read_claims = read(row["hybrid_gemma3-4b"], LEXICON).claims
            for kind, bits, low, high in read_claims:
                if kind == QUANTITY and round(high - low, 6) in (0.01, 0.005):
                    stated += 1
                    share = int(row[CLASSES[bits.bit_length() - 1]]) / 100
                    right += low <= share <= high
    assert stated > 70
    assert right / stated > 0.97
