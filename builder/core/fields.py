"""Types of the recipe's fields: bounded numbers, names, authors, and marks of paths."""

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, field_validator

from builder.core.escape import latex, terminal

SHAPES = {
    r"^[a-z0-9][a-z0-9._-]*$": "expected small letters, digits, '.', '_' and '-', without spaces",
    r"^\d+\.\d+\.\d+$": "expected MAJOR.MINOR.PATCH, for example 0.2.0",
    r"^\d{4}-\d{2}-\d{2}$": "expected a date, for example 2026-05-31",
    r"^([0-9a-fA-F]{32}|any)$": "expected an md5 of 32 hex digits, or any",
    r"^(10\.\d{4,9}/\S+)?$": "expected a DOI, for example 10.5281/zenodo.18890661",
    r"^(https?://\S+)?$": "expected an address that begins with https://",
    r"^([\w.-]+/[\w.-]+)?$": "expected a Hub repository, for example my-lab/my-tiles",
    r"^((s3|gs|az)://[^\s?#]+)?$": (
        "expected the address of a bucket, for example s3://my-lab/tiles, gs://… or az://…"
    ),
}
"""Patterns of the recipe's texts, and what is expected in words."""
NAME, VERSION, DATE, MD5, DOI, URL, REPO, BUCKET = SHAPES


class Section(pydantic.BaseModel):
    """A table of the recipe: unknown keys are errors, values are never coerced ("3" is not 3)."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False
    )


def checked_line(text: str) -> str:
    """The text. Raises ValueError where it breaks the line or holds what is not seen."""
    if terminal(text) != text or not {"\n", "\t"}.isdisjoint(text):
        raise ValueError("expected one line, without control characters")
    return text


Line = Annotated[str, AfterValidator(checked_line)]
"""A field whose text goes on one line of every card."""
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
NotNegative = Annotated[float, Field(ge=0)]
Crop = Annotated[int, Field(gt=0, multiple_of=8)]
Name = Annotated[str, Field(pattern=NAME)]


def checked_orcid(text: str) -> str:
    """The ORCID as 0000-0002-1825-0097, from that or its address.

    Raises ValueError for another form and for a wrong check digit (ISO 7064 MOD 11-2).
    """
    plain = text.removeprefix("https://orcid.org/").removeprefix("http://orcid.org/")
    groups = plain.split("-")
    digits = "".join(groups)
    well_formed = [len(group) for group in groups] == [4, 4, 4, 4] and digits.isascii()
    if not (well_formed and digits[:15].isdigit() and (digits[15].isdigit() or digits[15] == "X")):
        raise ValueError(
            "expected an ORCID of four groups of four, for example 0000-0002-1825-0097"
        )
    total = 0
    for digit in digits[:15]:
        total = (total + int(digit)) * 2
    rest = (12 - total % 11) % 11
    if digits[15] != (expected := "X" if rest == 10 else str(rest)):
        raise ValueError(
            f"is not an ORCID: its last digit must be {expected}; check it for a typing error"
        )
    return plain


class Author(pydantic.BaseModel):
    """``name`` of a person is "Family, Given"; a name without a comma is taken as it is."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(min_length=1)]
    orcid: str = ""
    affiliation: str = ""

    @field_validator("orcid")
    @classmethod
    def _orcid(cls, value: str) -> str:
        return checked_orcid(value) if value else value


def _table(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


AuthorField = Annotated[Author, BeforeValidator(_table)]
"""A field that takes a plain name too."""


def is_person(author: Author) -> bool:
    """Whether formats that distinguish people from organisations should list a person."""
    return bool("," in author.name or author.orcid or author.affiliation)


def creator(author: Author) -> dict[str, str]:
    """As Zenodo's ``creators`` have it."""
    values = {"name": author.name, "affiliation": author.affiliation, "orcid": author.orcid}
    return {key: value for key, value in values.items() if value}


def citation(author: Author) -> dict[str, str]:
    """As CITATION.cff has it."""
    if not is_person(author):
        return {"name": author.name}
    family, _, given = (part.strip() for part in author.name.partition(","))
    values = {
        "family-names": family,
        "given-names": given,
        "affiliation": author.affiliation,
        "orcid": f"https://orcid.org/{author.orcid}" if author.orcid else "",
    }
    return {key: value for key, value in values.items() if value}


def schema_org(author: Author) -> dict[str, JsonValue]:
    """As schema.org, and so Croissant, has it."""
    if not is_person(author):
        return {"@type": "sc:Organization", "name": author.name}
    person: dict[str, JsonValue] = {"@type": "sc:Person", "name": author.name}
    if author.orcid:
        person["sameAs"] = f"https://orcid.org/{author.orcid}"
    if author.affiliation:
        person["affiliation"] = {"@type": "sc:Organization", "name": author.affiliation}
    return person


def bibtex(authors: Sequence[Author]) -> str:
    """As BibTeX's ``author`` has them; braces keep the name of an organisation whole."""
    names = [latex(author.name) for author in authors]
    return " and ".join(name if "," in name else f"{{{name}}}" for name in names)


class Place(enum.Enum):
    """Mark of a recipe's field whose text may reveal where something lies: put it in `Annotated`.

    ``FILE``: always a path or pattern. ``MODEL``: a path, or ORG/NAME on the Hub.
    """

    FILE = "file"
    MODEL = "model"

    def shown(self, text: str, directory: Path) -> str:
        """``text`` without the folders; the name of a model on the Hub as it is."""
        if not text:
            return text
        path = (directory / text).absolute() if self is Place.FILE else local_path(text, directory)
        if path is None:
            return text
        name = path.name if path.name not in ("", "..") else path.resolve().name
        return name if self is Place.FILE else name.removesuffix(".gguf")


Model = Annotated[str, Place.MODEL]
File = Annotated[str, Place.FILE]
Files = Annotated[list[str], Place.FILE]


def local_path(model: str, directory: Path) -> Path | None:
    """The absolute path of a local model; None for a name on the Hub."""
    path = (directory / Path(model).expanduser()).absolute()
    is_path = model.startswith((".", "/", "~")) or model.endswith(".gguf") or path.exists()
    return path if is_path else None


def published(section: pydantic.BaseModel, directory: Path) -> dict[str, JsonValue]:
    """A section of the recipe as JSON values, every marked field reduced to a name.

    Relative paths are those of ``directory``. A path in a field without a mark stays as it is;
    `aras check` refuses a release that reveals an absolute path.
    """
    values = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        mark = next((item for item in field.metadata if isinstance(item, Place)), None)
        if name in values:
            values[name] = _published(getattr(section, name), values[name], mark, directory)
    return values


def _published(value: Any, shown: Any, mark: Place | None, directory: Path) -> Any:
    if isinstance(value, pydantic.BaseModel):
        return published(value, directory)
    if isinstance(value, dict):
        pairs = zip(value.values(), shown.items(), strict=True)
        return {key: _published(item, shown, mark, directory) for item, (key, shown) in pairs}
    if isinstance(value, (list, tuple)):
        pairs = zip(value, shown, strict=True)
        return [_published(item, shown, mark, directory) for item, shown in pairs]
    return mark.shown(value, directory) if mark and isinstance(value, str) else shown
