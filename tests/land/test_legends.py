"""Legends: every public code has a class, whatever the type of the samples that hold it."""

import re
from pathlib import Path

import numpy as np
import pytest

from builder.land.classes import CLASSES, DEFAULT_REMAP, NODATA, UNKNOWN, WORLDCOVER
from builder.land.legends import DROPPED, PUBLIC_MAPS, Legend, public, table

CORINE_CLASSES = [
    *(111, 112, 121, 122, 123, 124, 131, 132, 133, 141, 142),
    *(211, 212, 213, 221, 222, 223, 231, 241, 242, 243, 244),
    *(311, 312, 313, 321, 322, 323, 324, 331, 332, 333, 334, 335),
    *(411, 412, 421, 422, 423, 511, 512, 521, 522, 523),
]
"""The third level of the nomenclature, as Copernicus lists it; 1…44 in the rasters."""
PUBLIC_CODES = {
    "worldcover": [0, *WORLDCOVER],
    "dynamic-world": range(9),
    "esri": range(12),
    "corine": [*range(1, 45), 48, 49, 50, 255, *CORINE_CLASSES, 990, 995, 999],
    "nlcd": [
        *(0, 11, 12, 21, 22, 23, 24, 31, 41, 42, 43, 51, 52),
        *(71, 72, 73, 74, 81, 82, 90, 95, 250),
    ],
}


@pytest.mark.parametrize("name", PUBLIC_MAPS)
def test_a_ready_legend_has_every_code_of_the_public_definition_and_no_other(name: str) -> None:
    assert sorted(PUBLIC_MAPS[name].codes) == sorted(PUBLIC_CODES[name])
    assert {to for _, to in PUBLIC_MAPS[name].codes.values()} <= {*CLASSES, DROPPED}


@pytest.mark.parametrize("name", PUBLIC_MAPS)
def test_a_ready_legend_finds_all_seven_classes(name: str) -> None:
    assert {to for _, to in PUBLIC_MAPS[name].codes.values()} >= set(CLASSES)


def test_worldcover_is_remapped_as_ever() -> None:
    ids = public("worldcover").ids(np.arange(256, dtype=np.uint8))
    assert {code: CLASSES[ids[code]] for code in WORLDCOVER} == DEFAULT_REMAP
    assert ids[0] == NODATA
    assert set(np.delete(ids, [0, *WORLDCOVER])) == {UNKNOWN}


def test_the_44_classes_of_corine_mean_the_same_by_number_and_by_digits() -> None:
    codes = PUBLIC_MAPS["corine"].codes
    assert [codes[n] for n in range(1, 45)] == [codes[code] for code in CORINE_CLASSES]


def test_dynamic_world_counts_from_water() -> None:
    assert public("dynamic-world").ids(np.zeros(1, np.uint8)) == [CLASSES.index("Water")]


DTYPES = ["int8", "uint8", "int16", "uint16", ">i2", ">u2", "int32", "uint32", "int64", ">i4"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_codes_mean_the_same_in_samples_of_any_type(dtype: str) -> None:
    legend = Legend("", ((-128, DROPPED), (-1, "Water"), (0, "Tree"), (7, "Crop"), (999, "Grass")))
    wanted = {-128: NODATA, -1: 6, 0: 0, 7: 3, 999: 2, 8: UNKNOWN, -2: UNKNOWN, 40000: UNKNOWN}
    limits = np.iinfo(dtype)
    codes = [code for code in wanted if limits.min <= code <= limits.max]
    ids = legend.ids(np.array([codes, codes[::-1]], dtype))
    assert ids.dtype == np.uint8
    assert ids.tolist() == [[wanted[code] for code in codes], [wanted[c] for c in codes[::-1]]]


def test_codes_of_a_ready_legend_can_be_given_another_class() -> None:
    legend = public("esri", {10: "Barren", 12: DROPPED})
    assert legend.ids(np.array([10, 11, 12, 13])).tolist() == [5, 2, NODATA, UNKNOWN]


DEFINITIONS = {
    # ESA WorldCover, Product User Manual v2.0, table of the legend
    "worldcover": "10 tree cover; 20 shrubland; 30 grassland; 40 cropland; 50 built-up; "
    "60 bare sparse vegetation; 70 snow and ice; 80 permanent water bodies; 90 herbaceous wetland; "
    "95 mangroves; 100 moss and lichen",
    # Earth Engine catalogue, GOOGLE/DYNAMICWORLD/V1, class table of band label
    "dynamic-world": "0 water; 1 trees; 2 grass; 3 flooded vegetation; 4 crops; "
    "5 shrub and scrub; 6 built; 7 bare; 8 snow and ice",
    # Esri, Sentinel-2 10 m Land Use/Land Cover, item description: values in use since 2021
    "esri": "1 water; 2 trees; 4 flooded vegetation; 5 crops; 7 built area; 8 bare ground; "
    "9 snow ice; 10 clouds; 11 rangeland",
    # MRLC, National Land Cover Database, class legend and description
    "nlcd": "11 open water; 12 perennial ice snow; 21 developed, open space; "
    "22 developed, low intensity; 23 developed, medium intensity; 24 developed, high intensity; "
    "31 barren land; 41 deciduous forest; 42 evergreen forest; 43 mixed forest; 51 dwarf scrub; "
    "52 shrub scrub; 71 grassland herbaceous; 72 sedge herbaceous; 73 lichens; 74 moss; "
    "81 pasture hay; 82 cultivated crops; 90 woody wetlands; 95 emergent herbaceous wetlands",
}
"""Codes and names as their owners publish them, without slashes and brackets."""


@pytest.mark.parametrize("name", DEFINITIONS)
def test_names_of_codes_are_those_of_the_public_definition(name: str) -> None:
    published = dict(entry.split(" ", 1) for entry in DEFINITIONS[name].split("; "))
    held = {
        str(code): " ".join(words.lower().replace("/", " ").split())
        for code, (words, _) in PUBLIC_MAPS[name].codes.items()
    }
    assert published.items() <= held.items()


def test_the_page_has_every_code_of_every_legend_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs/legends.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"## (\S+)\n\n\[.*?\n\n(.*?)(?=\n\n## |\n*\Z)", page, re.DOTALL))
    assert sections.keys() == PUBLIC_MAPS.keys()
    for name, public_map in PUBLIC_MAPS.items():
        assert sections[name] == table(public_map)
        assert f"]({public_map.source})" in page


@pytest.mark.parametrize("name", PUBLIC_MAPS)
def test_a_code_beyond_the_definition_is_unknown(name: str) -> None:
    codes = set(PUBLIC_MAPS[name].codes)
    beyond = np.array(sorted(set(range(256)) - codes), np.uint8)
    assert (public(name).ids(beyond) == UNKNOWN).all()
    assert not (public(name).ids(np.array(sorted(codes), np.int32)) == UNKNOWN).any()
