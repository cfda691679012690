"""Captions without a model: sentences from composition and layout, varied by seed.

They say of themselves, in the columns ``model`` and ``revision``, that a template wrote them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from builder.captions.base import Answer, BackendSpec, Running
from builder.core.errors import ArasError
from builder.core.fields import Section
from builder.core.seeds import generator
from builder.land.classes import CLASSES
from builder.land.prompts import PRESENT, Request, place

MODEL = "aras-template"
REVISION = "1"

WORDS: dict[str, tuple[str, ...]] = {
    "Tree": ("forest", "tree cover", "woodland"),
    "Shrub": ("shrubland", "shrub cover"),
    "Grass": ("grassland", "open grassland"),
    "Crop": ("cropland", "farmland"),
    "Built-up": ("built-up land", "urban land"),
    "Barren": ("bare ground", "barren land"),
    "Water": ("water", "open water"),
}

STYLES = {
    "dominant": "One sentence: the class that covers most of the tile.",
    "composition": "One sentence: the classes present, from most to least, in words, no numbers.",
    "layout": "One sentence: in which part of the tile each main class lies.",
    "full": "Two sentences: the composition, then the layout.",
    "absence": "Two sentences: the main classes, then what the tile does not contain.",
}
"""The styles of the template backend and what each says."""

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Template:
    """The backend of a stream with ``backend = "template"``."""

    style: str

    model: str = MODEL
    revision: str = REVISION

    @property
    def prompt(self) -> str:
        return f"{self.style}: {STYLES[self.style]}"

    def caption(self, requests: Sequence[Request]) -> list[Answer]:
        return [Answer(self._write(request)) for request in requests]

    def _write(self, request: Request) -> str:
        if request.pixels is None or request.mask is None:
            raise ValueError("the template backend needs composition and layout")
        rng = generator(request.seed, "words")
        shares = request.pixels / max(1, request.pixels.sum())
        order = [i for i in np.argsort(-shares, kind="stable") if shares[i] >= PRESENT]
        names = {i: str(rng.choice(WORDS[CLASSES[i]])) for i in range(len(CLASSES))}
        parts = {
            "dominant": [_dominant(shares, order, names, rng)],
            "composition": [_composition(shares, order, names, rng)],
            "layout": [_layout(request.mask, shares, order, names, rng)],
            "full": [
                _composition(shares, order, names, rng),
                _layout(request.mask, shares, order, names, rng),
            ],
            "absence": [_dominant(shares, order, names, rng), _absence(shares, names)],
        }[self.style]
        return " ".join(_sentence(part) for part in parts if part)


@dataclass(frozen=True)
class Style:
    """All that decides a template's texts; see `Settings`."""

    style: str = "full"
    needs = ("mask", "pixels")

    def identity(self) -> dict[str, object]:
        return {"style": self.style}

    def published(self) -> dict[str, JsonValue]:
        return {}


class TemplateSection(Section):
    backend: Literal["template"] = "template"
    style: Literal[tuple(STYLES)] = Style.style  # type: ignore[valid-type]


def _open(settings: Style, running: Running) -> Template:
    if settings.style not in STYLES:
        raise ArasError(f"style = {settings.style!r}: known styles are {', '.join(STYLES)}")
    return Template(settings.style)


SPEC = BackendSpec(
    section=TemplateSection,
    configure=lambda place, section, directory: (Style(section.style), Running()),
    open=_open,
    light=True,
)


def _dominant(
    shares: Shares, order: list[int], names: dict[int, str], rng: np.random.Generator
) -> str:
    top, share = names[order[0]], shares[order[0]]
    if share >= 0.95:
        forms = (f"{top} covers nearly the whole tile", f"the tile is almost entirely {top}")
    elif share >= 0.5:
        forms = (f"{top} covers most of the tile", f"the tile is mostly {top}")
    else:
        forms = (f"{top} is the largest of several land covers", f"a mixed tile, led by {top}")
    return str(rng.choice(forms))


def _composition(
    shares: Shares, order: list[int], names: dict[int, str], rng: np.random.Generator
) -> str:
    main = _dominant(shares, order, names, rng)
    broad = [names[i] for i in order[1:] if shares[i] >= 0.1]
    small = [names[i] for i in order[1:] if shares[i] < 0.1]
    text = main
    if broad:
        text += f", with {_join(broad)}"
    if small:
        text += f"{' and' if broad else ', with'} {rng.choice(('a little', 'some'))} {_join(small)}"
    return text


def _layout(
    mask: npt.NDArray[np.uint8],
    shares: Shares,
    order: list[int],
    names: dict[int, str],
    rng: np.random.Generator,
) -> str:
    said = []
    for i in order[:3]:
        said.append(f"{names[i]} {place(mask == i)}")
    return _join(said, "; ") if len(said) > 1 else said[0]


def _absence(shares: Shares, names: dict[int, str]) -> str:
    absent = [names[i] for i in range(len(CLASSES)) if shares[i] == 0]
    return f"there is no {_join(absent, last=' or ')} in it" if absent else ""


def _join(words: list[str], between: str = ", ", last: str = " and ") -> str:
    if len(words) == 1:
        return words[0]
    joint = last if between == ", " else between
    return between.join(words[:-1]) + joint + words[-1]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
