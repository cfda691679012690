"""Authors: plain names and tables, ORCIDs that cannot be mistyped, and the formats they go to."""

from pathlib import Path

import pytest

from builder.core.errors import ArasError
from builder.core.fields import Author, bibtex, checked_orcid, citation, creator, schema_org
from builder.pipeline.recipe import load

ADA = {"name": "Lovelace, Ada", "orcid": "0000-0002-1825-0097", "affiliation": "Analytical Engines"}
TEAM = {"name": "The testers", "orcid": "", "affiliation": ""}
PERSON, ORGANISATION = Author(**ADA), Author(**TEAM)


def authors_of(folder: Path, text: str) -> list[dict]:
    (folder / "dataset.toml").write_text(f"[dataset]\nauthors = [{text}]\n")
    return load(folder).dataset.model_dump()["authors"]


def test_a_name_and_a_table_may_stand_side_by_side(tmp_path: Path) -> None:
    table = "{ " + ", ".join(f'{key} = "{value}"' for key, value in ADA.items()) + " }"
    assert authors_of(tmp_path, f'"The testers", {table}') == [TEAM, ADA]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{ name = "A", orcid = "0000-0002-1825-0098" }', r"last digit must be 7"),
        ('{ name = "A", orcid = "0000-0001-5109-3701" }', r"last digit must be 0"),
        (
            '{ name = "A", orcid = "1825-0097" }',
            r"authors\.0\.orcid = '1825-0097': expected an ORCID of four",
        ),
        ('{ name = "A", orcid = "0000-0002-1825-00X7" }', "expected an ORCID of four groups"),
        ('{ name = "" }', r"authors\.0\.name"),
        ('{ orcid = "0000-0002-1825-0097" }', r"authors\.0\.name"),
        (
            '{ name = "A", orcidd = "x" }',
            r"unknown key dataset\.authors\.0\.orcidd; did you mean orcid",
        ),
        ("3", r"authors\.0 = 3"),
        ("", r"dataset\.authors = \[\]"),
    ],
)
def test_a_wrong_author_is_named_with_the_way_out(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ArasError, match=message):
        authors_of(tmp_path, text)


@pytest.mark.parametrize("text", ["0000-0002-1694-233X", "https://orcid.org/0000-0002-1825-0097"])
def test_an_orcid_may_end_in_x_and_be_an_address(text: str) -> None:
    assert checked_orcid(text) == text[-19:]


def test_a_person_in_each_format() -> None:
    assert creator(PERSON) == ADA
    assert citation(PERSON) == {
        "family-names": "Lovelace",
        "given-names": "Ada",
        "affiliation": "Analytical Engines",
        "orcid": "https://orcid.org/0000-0002-1825-0097",
    }
    assert schema_org(PERSON) == {
        "@type": "sc:Person",
        "name": "Lovelace, Ada",
        "sameAs": "https://orcid.org/0000-0002-1825-0097",
        "affiliation": {"@type": "sc:Organization", "name": "Analytical Engines"},
    }


def test_an_organisation_in_each_format() -> None:
    assert creator(ORGANISATION) == citation(ORGANISATION) == {"name": "The testers"}
    assert schema_org(ORGANISATION) == {"@type": "sc:Organization", "name": "The testers"}
    assert bibtex([PERSON, ORGANISATION]) == "Lovelace, Ada and {The testers}"


def test_what_latex_would_interpret_is_escaped_in_a_citation() -> None:
    assert bibtex([Author(name="Smith & Sons"), Author(name="O_Hara, R&D")]) == (
        r"{Smith \& Sons} and O\_Hara, R\&D"
    )
