"""Legends of public land-cover maps: every code, its name there, and the class that it becomes.

A code becomes the class that WorldCover's definitions would give to what covers most of the ground:
flooded vegetation, wetlands, moss and pasture are Grass, snow and burnt land Barren, lawns with few
buildings Grass. What is tended for a harvest is Crop, trees and vines included. Codes of clouds, of
nothing observed and of nothing classified are DROPPED: they are no data.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from builder.land.classes import CLASSES, DEFAULT_REMAP, NODATA, UNKNOWN, WORLDCOVER

DROPPED = "dropped"
"""In place of a class: pixels of this code are no data."""

Codes = Mapping[int, tuple[str, str]]
"""Code → its name in the public definition, and one of CLASSES or DROPPED."""


@dataclass(frozen=True)
class PublicMap:
    """A land-cover map that anybody can get: ``source`` is where its codes are defined,
    ``attribution`` and ``license`` are its owner's words, empty where it names no licence."""

    title: str
    source: str
    license: str
    attribution: str
    codes: Codes


_DYNAMIC_WORLD: Codes = {
    0: ("Water", "Water"),
    1: ("Trees", "Tree"),
    2: ("Grass", "Grass"),
    3: ("Flooded vegetation", "Grass"),
    4: ("Crops", "Crop"),
    5: ("Shrub and scrub", "Shrub"),
    6: ("Built", "Built-up"),
    7: ("Bare", "Barren"),
    8: ("Snow and ice", "Barren"),
}

_ESRI: Codes = {
    0: ("No data", DROPPED),
    1: ("Water", "Water"),
    2: ("Trees", "Tree"),
    3: ("Grass", "Grass"),  # 3 and 6 only in the first edition, of 2020
    4: ("Flooded vegetation", "Grass"),
    5: ("Crops", "Crop"),
    6: ("Scrub/shrub", "Shrub"),
    7: ("Built area", "Built-up"),
    8: ("Bare ground", "Barren"),
    9: ("Snow/ice", "Barren"),
    10: ("Clouds", DROPPED),
    11: ("Rangeland", "Grass"),
}

_NLCD: Codes = {
    0: ("Unclassified", DROPPED),
    11: ("Open water", "Water"),
    12: ("Perennial ice/snow", "Barren"),
    21: ("Developed, open space", "Grass"),
    22: ("Developed, low intensity", "Built-up"),
    23: ("Developed, medium intensity", "Built-up"),
    24: ("Developed, high intensity", "Built-up"),
    31: ("Barren land", "Barren"),
    41: ("Deciduous forest", "Tree"),
    42: ("Evergreen forest", "Tree"),
    43: ("Mixed forest", "Tree"),
    51: ("Dwarf scrub", "Shrub"),
    52: ("Shrub/scrub", "Shrub"),
    71: ("Grassland/herbaceous", "Grass"),
    72: ("Sedge/herbaceous", "Grass"),
    73: ("Lichens", "Grass"),
    74: ("Moss", "Grass"),
    81: ("Pasture/hay", "Grass"),
    82: ("Cultivated crops", "Crop"),
    90: ("Woody wetlands", "Tree"),
    95: ("Emergent herbaceous wetlands", "Grass"),
    250: ("Fill of the annual maps", DROPPED),
}

_CORINE_CLASSES: Codes = {
    111: ("Continuous urban fabric", "Built-up"),
    112: ("Discontinuous urban fabric", "Built-up"),
    121: ("Industrial or commercial units", "Built-up"),
    122: ("Road and rail networks and associated land", "Built-up"),
    123: ("Port areas", "Built-up"),
    124: ("Airports", "Built-up"),
    131: ("Mineral extraction sites", "Barren"),
    132: ("Dump sites", "Barren"),
    133: ("Construction sites", "Barren"),
    141: ("Green urban areas", "Grass"),
    142: ("Sport and leisure facilities", "Grass"),
    211: ("Non-irrigated arable land", "Crop"),
    212: ("Permanently irrigated land", "Crop"),
    213: ("Rice fields", "Crop"),
    221: ("Vineyards", "Crop"),
    222: ("Fruit trees and berry plantations", "Crop"),
    223: ("Olive groves", "Crop"),
    231: ("Pastures", "Grass"),
    241: ("Annual crops associated with permanent crops", "Crop"),
    242: ("Complex cultivation patterns", "Crop"),
    243: (
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
        "Crop",
    ),
    244: ("Agro-forestry areas", "Crop"),
    311: ("Broad-leaved forest", "Tree"),
    312: ("Coniferous forest", "Tree"),
    313: ("Mixed forest", "Tree"),
    321: ("Natural grasslands", "Grass"),
    322: ("Moors and heathland", "Shrub"),
    323: ("Sclerophyllous vegetation", "Shrub"),
    324: ("Transitional woodland-shrub", "Shrub"),
    331: ("Beaches, dunes, sands", "Barren"),
    332: ("Bare rocks", "Barren"),
    333: ("Sparsely vegetated areas", "Barren"),
    334: ("Burnt areas", "Barren"),
    335: ("Glaciers and perpetual snow", "Barren"),
    411: ("Inland marshes", "Grass"),
    412: ("Peat bogs", "Grass"),
    421: ("Salt marshes", "Grass"),
    422: ("Salines", "Water"),
    423: ("Intertidal flats", "Barren"),
    511: ("Water courses", "Water"),
    512: ("Water bodies", "Water"),
    521: ("Coastal lagoons", "Water"),
    522: ("Estuaries", "Water"),
    523: ("Sea and ocean", "Water"),
}

_CORINE: Codes = {
    # The rasters hold 1…44 for the 44 classes in order, or the classes' own three digits.
    **dict(enumerate(_CORINE_CLASSES.values(), 1)),
    48: ("No data", DROPPED),
    49: ("Unclassified land surface", DROPPED),
    50: ("Unclassified water bodies", "Water"),
    255: ("Unclassified", DROPPED),
    **_CORINE_CLASSES,
    990: ("Unclassified land surface", DROPPED),
    995: ("Unclassified water bodies", "Water"),
    999: ("No data", DROPPED),
}

WORLDCOVER_LEGEND = "worldcover"

PUBLIC_MAPS = {
    WORLDCOVER_LEGEND: PublicMap(
        "ESA WorldCover",
        "https://esa-worldcover.org/en/data-access",
        "CC-BY-4.0",
        "© ESA WorldCover project / Contains modified Copernicus Sentinel data processed by ESA "
        "WorldCover consortium",
        {
            0: ("No data", DROPPED),
            **{code: (name, DEFAULT_REMAP[code]) for code, name in WORLDCOVER.items()},
        },
    ),
    "dynamic-world": PublicMap(
        "Dynamic World V1",
        "https://developers.google.com/earth-engine/datasets/catalog/GOOGLE_DYNAMICWORLD_V1",
        "CC-BY-4.0",
        "Dynamic World is produced by Google in partnership with National Geographic Society and "
        "World Resources Institute; contains modified Copernicus Sentinel data",
        _DYNAMIC_WORLD,
    ),
    "esri": PublicMap(
        "Sentinel-2 10 m Land Use/Land Cover of Esri and Impact Observatory",
        "https://www.arcgis.com/home/item.html?id=cfcb7609de5f478eb7666240902d4d3d",
        "CC-BY-4.0",
        "Impact Observatory, Microsoft, and Esri",
        _ESRI,
    ),
    "corine": PublicMap(
        "CORINE Land Cover",
        "https://land.copernicus.eu/en/products/corine-land-cover",
        "",
        "European Union's Copernicus Land Monitoring Service information",
        _CORINE,
    ),
    "nlcd": PublicMap(
        "National Land Cover Database",
        "https://www.mrlc.gov/data/legends/national-land-cover-database-class-legend-and-description",
        "",
        "U.S. Geological Survey, National Land Cover Database; in the public domain",
        _NLCD,
    ),
}
"""Legends that a recipe can name. The codes are those of the public definition at ``source``."""


def table(public_map: PublicMap) -> str:
    """A legend as a Markdown table: code, name in the public definition, class here."""
    rows = [f"| {code} | {name} | {to} |" for code, (name, to) in sorted(public_map.codes.items())]
    return "\n".join(["| code | name in the definition | class |", "|---|---|---|", *rows])


@dataclass(frozen=True)
class Legend:
    """What the codes of a map become: ``classes`` of (code, one of CLASSES or DROPPED), and the
    ``title`` of the map, for messages; empty for a legend of the recipe's own."""

    title: str
    classes: tuple[tuple[int, str], ...]

    def line(self) -> str:
        """In words: the name and what is dropped."""
        dropped = [str(code) for code, name in self.classes if name == DROPPED]
        codes = f"{len(self.classes) - len(dropped)} codes have a class"
        name = self.title or "of the recipe"
        return f"legend {name}: {codes}, dropped: {', '.join(dropped) or 'none'}"

    def ids(self, codes: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Codes of any integer type → class ids of the same shape; NODATA where dropped, UNKNOWN
        where the legend has no such code."""
        if codes.dtype.itemsize > 2:
            known, ids = _sorted(self.classes)
            places = np.minimum(np.searchsorted(known, codes), len(known) - 1)
            return np.where(known[places] == codes, ids[places], np.uint8(UNKNOWN))
        dtype = codes.dtype.newbyteorder("=")
        bits = codes.astype(dtype, copy=False).view(f"u{dtype.itemsize}")
        return np.asarray(_table(self.classes, dtype.str)[bits], np.uint8)


def _id(name: str) -> int:
    return NODATA if name == DROPPED else CLASSES.index(name)


def _sorted(
    classes: tuple[tuple[int, str], ...],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    pairs = sorted((code, _id(name)) for code, name in classes)
    codes, ids = zip(*pairs, strict=True)
    return np.array(codes, np.int64), np.array(ids, np.uint8)


@functools.lru_cache(maxsize=8)
def _table(classes: tuple[tuple[int, str], ...], dtype: str) -> npt.NDArray[np.uint8]:
    """The id of every value of an 8- or 16-bit type, in the order of its bits."""
    limits = np.iinfo(dtype)
    table = np.full(limits.max - limits.min + 1, UNKNOWN, dtype=np.uint8)
    for code, name in classes:
        if limits.min <= code <= limits.max:
            table[code] = _id(name)  # a negative code counts from the end, as its bits do
    return table


def public(name: str, changes: Mapping[int, str] | None = None) -> Legend:
    """The legend of one of PUBLIC_MAPS, with some codes given other classes."""
    codes = {code: to for code, (_, to) in PUBLIC_MAPS[name].codes.items()}
    return Legend(PUBLIC_MAPS[name].title, tuple(sorted({**codes, **(changes or {})}.items())))
