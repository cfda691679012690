"""The libraries that a release is read with, value by value, before it is published.

``cards/readers.json`` holds the versions once: environment → library → version. ``make readers``
installs exactly these and compares every value; the card prints the span of each library.
"""

from builder.core.document import templates
from builder.core.files import read_json

SHOWN = ("datasets", "pyarrow", "pandas", "polars", "duckdb", "mlcroissant", "webdataset")
"""Libraries that the card names; the others are what these need."""


def environments() -> dict[str, dict[str, str]]:
    """Environment → library → version, from the oldest to the newest."""
    pins: dict[str, dict[str, str]] = read_json(templates() / "readers.json")
    return pins


def spans() -> dict[str, tuple[str, str]]:
    """Library → the lowest and the highest version that reads a release."""
    pins = environments().values()
    held = {name: [versions[name] for versions in pins if name in versions] for name in SHOWN}
    return {name: (min(every, key=_order), max(every, key=_order)) for name, every in held.items()}


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
