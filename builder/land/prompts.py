"""What a model is asked: land cover in words, Jinja prompts, and the presets of known streams."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import jinja2.meta
import jinja2.sandbox
import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from builder.core.errors import ArasError
from builder.land.classes import CLASSES, percent


@dataclass(frozen=True)
class Request:
    """One tile to caption. ``mask`` is (H, W) uint8 ids, ``image`` PNG bytes, ``pixels`` (7,)
    counts; what a stream does not need is None."""

    id: str
    seed: int
    pixels: npt.NDArray[np.int64] | None = None
    mask: npt.NDArray[np.uint8] | None = None
    image: bytes | None = None
    flaw: str = ""
    """Why the tile's pictures cannot be decoded; empty where they can."""


ROWS = {"first": "north", "last": "south"}
COLUMNS = {"first": "west", "last": "east"}
SIDES = tuple(ROWS)
MOST = 0.7
"""Share of a class's pixels that must lie in a part of the tile for a caption to say so."""
PRESENT = 0.01
"""Smallest share of a class that a caption mentions."""

SEES = ("image", "composition", "layout")
"""What a stream may show its model."""

VARIABLES = {"composition": ("percentages", "composition"), "layout": ("layout",)}
"""Variables of a prompt, by what the stream sees."""

NAMES = (
    "tree cover",
    "shrubland",
    "grassland",
    "cropland",
    "built-up land",
    "bare ground",
    "water",
)
"""The classes as a prompt calls them, in id order."""

SHARES = (
    (0.95, "almost only {}"),
    (0.60, "mostly {}"),
    (0.40, "about half {}"),
    (0.25, "extensive {}"),
    (0.10, "a fair share of {}"),
    (PRESENT, "a little {}"),
)
"""Smallest share → how a composition without numbers puts it."""

_VISION = "Describe the land use and the key features of this satellite image tile in one or two \
concise sentences."

_HYBRID = """\
The land cover of this satellite image tile is distributed as follows: {{ percentages }}.
Describe in one or two concise sentences its dominant land use and how the land covers are laid \
out in the image."""

_GREEDY = {"decoding": "greedy"}
_OWN = {"decoding": "model"}

PRESETS: dict[str, dict[str, JsonValue]] = {
    "text_qwen3-4b": {
        "model": "Qwen/Qwen3-4B-Instruct-2507",
        "sees": ["composition"],
        "system": "You are an expert in remote sensing who describes land cover and land use.",
        "prompt": "Describe the dominant land use of a satellite image tile in one or two "
        "concise sentences. Answer with the description only.\n"
        "Land cover of the tile: {{ percentages }}.",
        "decoding": "sample",
        "temperature": 0.7,
        "top_p": 0.8,
    },
    "vision_gemma3-4b": {
        "model": "google/gemma-3-4b-it",
        "sees": ["image"],
        "prompt": _VISION,
        **_OWN,
    },
    "vision_qwen3-vl-8b": {
        "model": "Qwen/Qwen3-VL-8B-Instruct",
        "sees": ["image"],
        "prompt": _VISION,
        **_GREEDY,
    },
    "hybrid_gemma3-4b": {
        "model": "google/gemma-3-4b-it",
        "sees": ["image", "composition"],
        "prompt": _HYBRID,
        **_OWN,
    },
    "hybrid_qwen3-vl-8b": {
        "model": "Qwen/Qwen3-VL-8B-Instruct",
        "sees": ["image", "composition"],
        "prompt": _HYBRID,
        **_GREEDY,
    },
    "grounded": {
        "model": "Qwen/Qwen3-VL-8B-Instruct",
        "sees": ["image", "composition"],
        "prompt": "This satellite image tile shows {{ composition }}, and no other land cover.\n"
        "Write one or two sentences that say in which part of the image each of these land "
        "covers lies (north is up) and what shapes they form. Begin with the land cover itself. "
        "Use no numbers or percentages, and name nothing that is not listed or visible.",
        "decoding": "sample",
        "temperature": 0.7,
        "top_p": 0.8,
        "attempts": 3,
        "min_discrimination": 0.7,
        "min_grounding": 0.5,
        "fallback": "full",
    },
}
"""Recipe keys of each preset: the five streams of ARAS400k by model, view and decoding, with
prompts of our own, and `grounded`. Keys beside ``preset`` in a recipe replace these."""


def percentages(pixels: npt.NDArray[np.int64]) -> str:
    """Counts (7,) → "57% cropland, 43% grassland", from most to least, whole per cent."""
    whole = percent(pixels)
    return ", ".join(f"{whole[i]}% {NAMES[i]}" for i in _order(pixels) if whole[i])


def composition(pixels: npt.NDArray[np.int64]) -> str:
    """Counts (7,) → "mostly cropland, a little water": no numbers, no class under 1 %."""
    shares = pixels / max(1, pixels.sum())
    parts = []
    for i in _order(pixels):
        for least, form in SHARES:
            if shares[i] >= least:
                parts.append(form.format(NAMES[i]))
                break
    return ", ".join(parts)


def layout(mask: npt.NDArray[np.uint8]) -> str:
    """Mask (H, W) → "cropland lies along the north; water lies in the south-east"."""
    counts = np.bincount(mask.ravel(), minlength=len(CLASSES))
    shown = [i for i in _order(counts) if counts[i] >= PRESENT * mask.size]
    return "; ".join(f"{NAMES[i]} {place(mask == i)}" for i in shown)


def _order(counts: npt.NDArray[Any]) -> list[int]:
    return [int(i) for i in np.argsort(-counts, kind="stable")]


def render(prompt: str, sees: Sequence[str], request: Request) -> str:
    """The prompt for a tile, with the variables of what the stream sees.

    Raises ArasError naming the row when it lacks a mask or a composition that the stream sees.
    """
    values = {}
    if "composition" in sees:
        if request.pixels is None or not request.pixels.sum():
            raise ArasError(f"{request.id}: has no composition, which this stream sees")
        values["percentages"] = percentages(request.pixels)
        values["composition"] = composition(request.pixels)
    if "layout" in sees:
        if request.mask is None:
            raise ArasError(f"{request.id}: has no mask, whose layout this stream sees")
        values["layout"] = layout(request.mask)
    return _template(prompt).render(values).strip()


def check(prompt: str, sees: Sequence[str]) -> None:
    """Raise ArasError unless ``prompt`` is Jinja that uses what the stream sees, and only that."""
    used = variables(prompt)
    known = {name for what in sees for name in VARIABLES.get(what, ())}
    if unknown := sorted(used - known):
        have = f"it has {', '.join(sorted(known))}" if known else "it has no variables"
        raise ArasError(
            f"uses {{{{ {unknown[0]} }}}}, but for sees = [{', '.join(sees)}] {have}; variables "
            "are percentages and composition (sees composition) and layout (sees layout)"
        )
    for what in sees:
        if what in VARIABLES and not used & set(VARIABLES[what]):
            wanted = " or ".join(f"{{{{ {name} }}}}" for name in VARIABLES[what])
            raise ArasError(f"the stream sees {what}, but the prompt uses no {wanted}")
    if not prompt.strip():
        raise ArasError("is empty")


def variables(prompt: str) -> set[str]:
    """Names of the variables that a prompt uses. Raises ArasError when it is not Jinja."""
    try:
        return set(jinja2.meta.find_undeclared_variables(_ENVIRONMENT.parse(prompt)))
    except jinja2.TemplateSyntaxError as error:
        raise ArasError(f"line {error.lineno} is not Jinja: {error.message}") from error


_ENVIRONMENT = jinja2.sandbox.ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


@functools.lru_cache(maxsize=64)
def _template(prompt: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(prompt)


def place(where: npt.NDArray[np.bool_]) -> str:
    """Where `MOST` of a class's pixels lie: a half of the tile, a quarter, its middle third."""
    down, across = (_side(where.sum(axis=axis)) for axis in (1, 0))
    if down == across == "middle":
        return "lies in the centre"
    if down in SIDES and across in SIDES:
        return f"lies mostly in the {ROWS[down]}-{COLUMNS[across]}"
    if down in SIDES or across in SIDES:
        return f"lies mostly in the {ROWS[down] if down in SIDES else COLUMNS[across]}"
    if down == "middle":
        return "runs across the middle"
    return "runs down the middle" if across == "middle" else "is spread over the tile"


def _side(counts: npt.NDArray[np.int64]) -> str:
    """The half (first or last), else the middle third, that holds `MOST` of a profile, if any."""
    size = len(counts)
    share = np.concatenate([[0], np.cumsum(counts)]) / max(1, counts.sum())
    if share[round(2 * size / 3)] - share[round(size / 3)] >= MOST:
        return "middle"
    if share[size // 2] >= MOST:
        return "first"
    return "last" if 1 - share[-(-size // 2)] >= MOST else ""
