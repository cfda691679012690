"""The data of others that a release is made from: names, licences, notices and where they are."""

from collections.abc import Iterable
from typing import Any

from builder.pipeline import Project
from builder.release.layout import read_manifest
from builder.stages.import_release import ImportRelease

Source = dict[str, str]
"""name, license, notice, doi and url; empty texts where there is none."""

MAPS = {"2020": ("v100", "10.5281/zenodo.5571936"), "2021": ("v200", "10.5281/zenodo.7254221")}
"""Year of an ESA WorldCover map → version and DOI, as github.com/ESA-WorldCover cites them."""
COMPOSITES = "https://esa-worldcover.org/en/data-access"
OFFICIAL = {
    "name": "ARAS400k, by the authors of arXiv 2603.09625",
    "license": "CC-BY-4.0",
    "notice": "",
    "doi": "10.5281/zenodo.18890661",
    "url": "",
}


def sources(project: Project, extent: dict[str, Any] | None) -> list[Source]:
    """Where the rows come from: as the recipe says, or by how they were made.

    ``extent`` is the census's: the years of the composites stand in it. Rows of a release that
    was brought in have its sources, and the release itself.
    """
    if (told := project.recipe.release.sources) is not None:
        return [one.model_dump() for one in told]
    years = extent["years"] if extent else []
    if not project.is_imported:
        return worldcover(years)
    stage = project.imports()
    if not isinstance(stage, ImportRelease):
        return [OFFICIAL, *worldcover(years)]
    origin = read_manifest(stage.release)
    own = {
        "name": f"{origin['title']}, version {origin['version']}",
        "license": origin["license"],
        "notice": "",
        "doi": origin.get("doi") or "",
        "url": "",
    }
    return [own, *origin["facts"].get("sources", worldcover(years))]


def worldcover(years: Iterable[int]) -> list[Source]:
    """Maps and composites of ESA WorldCover of these years; of 2021 where none is known."""
    found = []
    for year in [str(one) for one in years] or ["2021"]:
        version, doi = MAPS.get(year, ("", ""))
        notice = f"ontains modified Copernicus Sentinel data ({year}) processed by"
        found += [
            {
                "name": f"ESA WorldCover project {year}, maps {version}".strip(),
                "license": "CC-BY-4.0",
                "notice": f"© ESA WorldCover project / C{notice} ESA WorldCover consortium",
                "doi": doi,
                "url": "" if doi else COMPOSITES,
            },
            {
                "name": f"ESA WorldCover Sentinel-2 RGBNIR composites {year}",
                "license": "CC-BY-4.0",
                "notice": f"C{notice} ESA WorldCover consortium",
                "doi": "",
                "url": COMPOSITES,
            },
        ]
    return found
