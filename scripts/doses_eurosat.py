"""The dose–response experiment on EuroSAT: to what extent does synthetic data degrade retrieval?

    python scripts/doses_eurosat.py eurosat.tar --doses doses.toml --out OUT

The archive holds 64-pixel JPEGs named CLASS_NUMBER.jpg. Real train tiles with a long tail, held-out
tiles, tiles of test scenes and tiles that doses are measured with are drawn from it, none of them
twice; then every arm of the table of doses runs that has no record yet, and the report is written.
Interrupted, the same command goes on.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from builder.core.engine import Engine
from builder.core.files import digest_of, sha256_file
from builder.experiments.dose_response import Bench, Material, Table
from builder.experiments.dose_run import run
from builder.experiments.imbalance import SetFacts
from builder.experiments.mosaics import Sizes, mosaics

try:
    from scripts.imbalance_eurosat import CLASSES, read
except ImportError:
    from imbalance_eurosat import CLASSES, read  # type: ignore[no-redef]

NOUNS = {
    "AnnualCrop": "crops",
    "Forest": "forest",
    "HerbaceousVegetation": "shrubs",
    "Highway": "highway",
    "Industrial": "factories",
    "Pasture": "pasture",
    "PermanentCrop": "orchards",
    "Residential": "houses",
    "River": "river",
    "SeaLake": "lake",
}


def material(tar: Path, out: Path, sizes: Sizes) -> Material:
    pixels, labels, _ = read(tar)
    dealt = mosaics(pixels, labels, CLASSES, NOUNS, sizes)
    facts = SetFacts(
        name="EuroSAT scenes" if sizes.side > 1 else "EuroSAT tiles",
        version=f"{dealt.counts.max()}:{dealt.counts.min()}",
        content_sha256=digest_of([sha256_file(tar), list(vars(sizes).values()), NOUNS]),
    )
    return Material(facts, dealt, out, "S" if sizes.side > 1 else "C")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tar", type=Path, help="64-pixel JPEGs named CLASS_NUMBER.jpg")
    parser.add_argument("--doses", type=Path, required=True, help="the table of doses, TOML")
    parser.add_argument("--out", type=Path, required=True)
    sizes = Sizes()
    parser.add_argument("--side", type=int, default=sizes.side, help="tiles per side of a scene")
    parser.add_argument("--real", type=int, default=sizes.real, help="real train tiles")
    parser.add_argument("--factor", type=float, default=sizes.factor, help="largest : rarest class")
    parser.add_argument("--test", type=int, default=sizes.test, help="test scenes")
    parser.add_argument(
        "--judge", type=int, default=sizes.judge, help="of each class, for measures"
    )
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    sizes = replace(
        sizes,
        side=given.side,
        real=given.real,
        factor=given.factor,
        test=given.test,
        judge=given.judge,
        uses=sizes.uses if given.side > 1 else 1,
    )
    table = Table.read(given.doses)
    source = partial(Bench, partial(material, given.tar, given.out, sizes), table)
    run(source, given.out, given.seeds, Engine("serial", 1))


if __name__ == "__main__":
    main()
