"""Template captions: true of the mask that they are made from, varied by seed, the same again."""

import itertools
import re

import numpy as np
import pytest

from builder.captions.template import STYLES, WORDS, Template
from builder.land.classes import CLASSES, count_pixels
from builder.land.prompts import PRESENT, Request
from tests.makers.products import land

IDS = {name: i for i, name in enumerate(CLASSES)}


def write(style: str, mask: np.ndarray, seed: int = 0) -> str:
    request = Request("real/x", seed, pixels=count_pixels(mask), mask=mask)
    (answer,) = Template(style).caption([request])
    assert answer.error is None
    assert answer.text
    return answer.text


def named(text: str) -> set[str]:
    """Classes that a text names, by any of their words."""
    return {
        name
        for name, words in WORDS.items()
        if any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in words)
    }


def masks(count: int = 25) -> list[np.ndarray]:
    """Varied masks: many classes and few."""
    drawn = []
    for seed in range(count):
        mask = land((96, 96), seed=seed, grain=4 + 3 * (seed % 8))
        drawn.append(np.where(mask > seed % 7, seed % 7, mask).astype(np.uint8))
    return drawn


def shares(mask: np.ndarray) -> dict[str, float]:
    return dict(zip(CLASSES, (count_pixels(mask) / mask.size).tolist(), strict=True))


@pytest.mark.parametrize("style", ["dominant", "composition", "layout", "full"])
def test_every_class_that_is_named_is_there(style: str) -> None:
    for mask in masks():
        present = shares(mask)
        assert all(present[name] >= PRESENT for name in named(write(style, mask)))


def test_the_dominant_sentence_names_the_largest_class_alone() -> None:
    for mask in masks():
        present = shares(mask)
        assert named(write("dominant", mask)) == {max(CLASSES, key=lambda name: present[name])}


def test_the_composition_names_every_class_that_covers_one_percent() -> None:
    for mask in masks():
        expected = {name for name, share in shares(mask).items() if share >= PRESENT}
        assert named(write("composition", mask)) == expected


def test_the_composition_goes_from_most_to_least() -> None:
    mask = np.repeat(np.array([3, 0, 2, 6], dtype=np.uint8), [50, 30, 15, 5])
    text = write("composition", np.tile(mask, (100, 1))).lower()
    places = [
        min(text.find(w) for w in WORDS[name] if w in text)
        for name in ("Crop", "Tree", "Grass", "Water")
    ]
    assert places == sorted(places)


def test_absence_names_exactly_the_classes_without_a_pixel() -> None:
    for mask in masks():
        text = write("absence", mask)
        absent = {name for name, share in shares(mask).items() if share == 0}
        absent_part = text.split("There is no")[1] if "There is no" in text else ""
        assert named(absent_part) == absent


def test_a_single_pixel_is_enough_not_to_be_called_absent() -> None:
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[5, 5] = IDS["Water"]
    assert "Water" not in named(write("absence", mask))


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        (slice(0, 30), slice(None), "lies mostly in the north"),
        (slice(60, 90), slice(None), "lies mostly in the south"),
        (slice(None), slice(0, 30), "lies mostly in the west"),
        (slice(None), slice(60, 90), "lies mostly in the east"),
        (slice(0, 30), slice(60, 90), "lies mostly in the north-east"),
        (slice(60, 90), slice(0, 30), "lies mostly in the south-west"),
        (slice(35, 55), slice(35, 55), "lies in the centre"),
        (slice(35, 55), slice(None), "runs across the middle"),
        (slice(None), slice(35, 55), "runs down the middle"),
    ],
)
def test_the_layout_says_in_which_part_a_class_lies(
    rows: slice, columns: slice, words: str
) -> None:
    mask = np.full((90, 90), IDS["Grass"], dtype=np.uint8)
    mask[rows, columns] = IDS["Water"]
    assert re.search(f"water {words}", write("layout", mask), re.IGNORECASE)


def test_a_class_all_over_is_spread_over_the_tile() -> None:
    mask = np.full((90, 90), IDS["Grass"], dtype=np.uint8)
    mask[::9] = IDS["Water"]
    text = write("layout", mask)
    assert text.count("is spread over the tile") == 2


def test_a_side_is_named_only_where_most_of_the_class_lies() -> None:
    """What a sentence says of north and south, west and east holds for 70 % of the pixels."""
    sides = {"north": (0, 0), "south": (0, 1), "west": (1, 0), "east": (1, 1)}
    said = 0
    for mask, seed in itertools.product(masks(), range(3)):
        for part in write("layout", mask, seed).rstrip(".").split("; "):
            (name,) = named(part)
            where = mask == IDS[name]
            for side, (axis, half) in sides.items():
                if side in part:
                    inside = np.array_split(where, 2, axis=axis)[half].sum()
                    assert inside / where.sum() >= 0.69, part
                    said += 1
    assert said > 20


@pytest.mark.parametrize("style", sorted(STYLES))
def test_words_vary_by_seed_and_are_the_same_again(style: str) -> None:
    mask = land((96, 96), seed=3, grain=10)
    texts = [write(style, mask, seed) for seed in range(12)]
    assert len(set(texts)) >= 3
    assert texts == [write(style, mask, seed) for seed in range(12)]


@pytest.mark.parametrize("style", sorted(STYLES))
def test_a_caption_is_sentences_without_numbers(style: str) -> None:
    for mask in masks(8):
        text = write(style, mask)
        assert re.fullmatch(r"([A-Z][^.]+\.)( [A-Z][^.]+\.)?", text)
        assert not re.search(r"\d|%", text)


def test_answers_come_in_the_order_of_the_requests() -> None:
    two = [np.full((9, 9), IDS[name], dtype=np.uint8) for name in ("Water", "Crop")]
    requests = [Request(str(i), i, count_pixels(m), m) for i, m in enumerate(two)]
    answers = Template("dominant").caption(requests)
    assert [named(answer.text or "") for answer in answers] == [{"Water"}, {"Crop"}]


def test_without_a_mask_there_is_no_caption() -> None:
    with pytest.raises(ValueError, match="needs composition and layout"):
        Template("full").caption([Request("real/x", 0)])
