"""The tables of a lexicon's TOML file, and a file laid over another."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.core.errors import ArasError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ArasError(f"{path}: no such lexicon; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArasError(f"{path}: cannot read the lexicon: {error}") from error


def parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ArasError(f"{path}: cannot read the lexicon: {error}") from error
    except RecursionError:
        raise ArasError(f"{path}: cannot read the lexicon: it is nested too deeply") from None


def overlay(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = overlay(old, value)
        elif isinstance(old, list) and isinstance(value, list) and key not in ("interval", "box"):
            merged[key] = old + value
        else:
            merged[key] = value
    return merged
