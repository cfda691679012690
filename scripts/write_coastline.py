"""Write the coastlines that the page of `aras explore` ships, from Natural Earth.

Example: (cd scripts/coastline && npm ci) && python scripts/write_coastline.py

Natural Earth's 1:110m land (public domain) comes as TopoJSON with the npm package world-atlas
(ISC), pinned by scripts/coastline/package-lock.json. It becomes rings of longitude and latitude in
hundredths of a degree. The licence is written beside it.
"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ATLAS = HERE / "coastline/node_modules/world-atlas"
SITE = HERE.parent / "builder/explore/site"


def rings(topology: dict[str, Any]) -> list[list[int]]:
    """Outer and inner rings of all polygons: x, y, x, y … in hundredths of a degree."""
    (sx, sy), (tx, ty) = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for arc in topology["arcs"]:
        steps = itertools.accumulate(arc, lambda a, b: [a[0] + b[0], a[1] + b[1]])
        arcs.append([(round(100 * (x * sx + tx)), round(100 * (y * sy + ty))) for x, y in steps])

    def joined(numbers: list[int]) -> list[int]:
        points: list[tuple[int, int]] = []
        for number in numbers:
            arc = arcs[number] if number >= 0 else arcs[~number][::-1]
            points += arc[1:] if points else arc
        return list(itertools.chain.from_iterable(points))

    polygons = []
    for geometry in topology["objects"]["land"]["geometries"]:
        several = geometry["type"] == "MultiPolygon"
        polygons += geometry["arcs"] if several else [geometry["arcs"]]
    return [joined(ring) for polygon in polygons for ring in polygon]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--atlas", type=Path, default=ATLAS, help="folder of world-atlas")
    parser.add_argument("--out", type=Path, default=SITE, help="folder of the page")
    options = parser.parse_args()
    land = json.loads((options.atlas / "land-110m.json").read_text())
    coast = rings(land)
    (options.out / "coast.json").write_text(json.dumps(coast, separators=(",", ":")) + "\n")
    notice = (
        "coast.json: coastlines of Natural Earth (naturalearthdata.com), 1:110m land, in the\n"
        "public domain, by way of world-atlas 2.0.2, whose licence is:\n\n"
    )
    text = notice + (options.atlas / "LICENSE").read_text()
    (options.out / "LICENSES.txt").write_text(text)
    print(f"{len(coast)} rings, {sum(map(len, coast)) // 2} points")


if __name__ == "__main__":
    main()
