"""What a release says of its places, times, makers and limits: from its facts, or not at all."""

import json
from pathlib import Path

import mlcroissant
import pyarrow.parquet as pq
import pytest

from builder.core.manifest import (
    Agent,
    Census,
    Extent,
    Facts,
    Manifest,
    StreamSummary,
    read_manifest,
)
from builder.pipeline.project import Project
from builder.release import disclosure
from builder.release.geo import bounds, footprints


@pytest.fixture(scope="module")
def release(project: Project) -> Path:
    return project.releases / project.recipe.dataset.version


@pytest.fixture(scope="module")
def document(release: Path) -> dict:
    return json.loads((release / "croissant.json").read_text())


@pytest.fixture(scope="module")
def real(release: Path):
    """Corners of the real tiles."""
    columns = ["crs", "transform", "pixels"]
    tables = [pq.read_table(path, columns=columns) for path in (release / "real").iterdir()]
    return [footprints(table) for table in tables]


def manifest(census: Census, **facts: object) -> Manifest:
    return Manifest(
        format=1,
        version="1.0.0",
        authors=(),
        content_sha256="",
        configs={},
        files=(),
        facts=Facts(census=census, **facts),
    )


EXTENT = Extent(west=32.9, south=36.4, east=33.1, north=36.6, cells=2, years=(2020, 2021))


def test_the_covered_box_holds_every_footprint_and_no_more(document: dict, real: list) -> None:
    box = document["spatialCoverage"]["geo"]["box"]
    south, west, north, east = map(float, box.split())
    corners = [side for part in real for side in bounds(part).tolist()]
    wests, souths, easts, norths = zip(*corners, strict=True)
    assert (west, south) == pytest.approx((min(wests), min(souths)), abs=1e-6)
    assert (east, north) == pytest.approx((max(easts), max(norths)), abs=1e-6)
    assert west <= min(wests)
    assert north >= max(norths)


def test_the_covered_time_is_the_years_of_the_composites(document: dict) -> None:
    assert document["temporalCoverage"] == "2021-01-01/2021-12-31"
    assert disclosure.coverage(manifest(Census(extent=EXTENT)))["temporalCoverage"] == (
        "2020-01-01/2021-12-31"
    )


def test_geocroissant_names_crs_and_resolution_of_the_tiles(document: dict) -> None:
    assert document["geocr:coordinateReferenceSystem"] == "EPSG:4326"
    assert document["geocr:spatialResolution"]["value"] == pytest.approx(1 / 12_000)
    assert document["geocr:bandConfiguration"]["geocr:totalBands"] == 3


def test_several_crs_are_not_one() -> None:
    extent = EXTENT.model_copy(update={"crs": ("EPSG:32635", "EPSG:32636"), "pixel": (10.0,)})
    values = disclosure.coverage(manifest(Census(extent=extent)))
    assert "geocr:coordinateReferenceSystem" not in values
    assert "geocr:spatialResolution" not in values


def test_captions_and_synthetic_tiles_name_the_model_and_its_revision(
    release: Path, document: dict
) -> None:
    activities = {value["@id"]: value for value in document["prov:wasGeneratedBy"]}
    (row,) = pq.read_table(release / "synthetic").slice(0, 1).to_pylist()
    (agent,) = activities["activity/synthetic-tiles"]["prov:wasAssociatedWith"]
    assert agent["prov:label"] == f"{row['gen_model']}@{row['gen_revision']}"
    for caption in row["captions"]:
        (agent,) = activities[f"activity/captions-{caption['stream']}"]["prov:wasAssociatedWith"]
        assert agent["prov:label"] == f"{caption['model']}@{caption['revision']}"
    assert document["prov:wasDerivedFrom"][0]["prov:label"].startswith("ESA WorldCover")


def test_the_disclosure_of_synthetic_tiles_counts_them(release: Path, document: dict) -> None:
    rows = read_manifest(release).facts.census.rows
    assert document["rai:hasSyntheticData"] is True
    assert (
        f"{rows['synthetic/train']} synthetic tiles, in train only"
        in (document["rai:dataCollection"])
    )
    assert "full by aras-template@1" in document["rai:dataAnnotationProtocol"]


def test_mlcroissant_reads_the_publisher_and_the_responsible_ai(
    release: Path, document: dict
) -> None:
    metadata = mlcroissant.Dataset(jsonld=release / "croissant.json").metadata
    assert metadata.publisher[0].name == document["publisher"][0]["name"]
    assert document["publisher"][0]["name"] == read_manifest(release).repo.partition("/")[0]
    assert metadata.data_collection == document["rai:dataCollection"]
    assert metadata.data_biases == [document["rai:dataBiases"]]


def test_the_owner_of_the_repo_publishes_where_there_is_one() -> None:
    facts = Facts().with_setting("release", "repo", "my-lab/tiles")
    known = manifest(Census()).model_copy(update={"facts": facts})
    assert disclosure.publisher(known) == [
        {"@type": "sc:Organization", "name": "my-lab", "url": "https://huggingface.co/my-lab"}
    ]


def test_zenodo_gets_the_middle_of_the_tiles(release: Path) -> None:
    (place,) = json.loads((release / ".zenodo.json").read_text())["locations"]
    west, south, east, north = read_manifest(release).facts.census.extent.bounds
    assert (place["lat"], place["lon"]) == pytest.approx(
        ((south + north) / 2, (west + east) / 2), abs=1e-4
    )
    assert "N to " in place["place"]


def test_a_release_without_facts_says_nothing() -> None:
    empty = manifest(Census())
    assert disclosure.coverage(empty) == {}
    assert disclosure.locations(empty) == []
    assert disclosure.provenance(empty) == {}
    assert disclosure.responsible_ai(empty) == {}


def test_a_stream_whose_models_are_not_known_is_named_as_such() -> None:
    census = Census(
        rows={"real/train": 3},
        streams={
            "real/a": StreamSummary(n=3, unique=3, agents=(Agent(model="m", revision="r", n=3),)),
            "real/b": StreamSummary(n=2, unique=2),
        },
    )
    values = disclosure.responsible_ai(manifest(census))
    assert "a by m@r; b by unknown" in values["rai:dataAnnotationProtocol"]
    assert values["rai:machineAnnotationTools"] == ["m@r"]
    assert values["rai:dataLimitations"].startswith("Rows without a caption")
    assert values["rai:hasSyntheticData"] is False


def test_a_place_south_and_west_is_said_so() -> None:
    assert disclosure.place_name((-78.4, -0.17, -78.0, 0.17)) == (
        "0.17° S to 0.17° N, 78.4° W to 78° W"
    )
