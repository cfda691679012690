"""The templates of the folder cards/ and the environment that renders them."""

import json
from pathlib import Path

import jinja2
import yaml


def templates() -> Path:
    """The folder cards/, in a checkout or inside an installed package."""
    package = Path(__file__).parents[1]
    inside = package / "_cards"
    return inside if inside.is_dir() else package.parent / "cards"


def environment() -> jinja2.Environment:
    """Jinja with our filters; an undefined name is an error, never an empty string."""
    loader = jinja2.FileSystemLoader(templates())
    jinja = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["json"] = json.dumps
    jinja.filters["number"] = lambda value: f"{value:,}"
    jinja.filters["share"] = lambda value, digits=1: f"{100 * value:.{digits}f} %"
    jinja.filters["cell"] = table_cell
    jinja.filters["yaml"] = lambda value: (
        yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
        .strip()
        .removesuffix("...")
        .strip()
    )
    return jinja


def table_cell(text: str) -> str:
    """Text for a cell of a Markdown table: on one line, without what would end it or be markup."""
    line = " ".join(text.split())
    return line.replace("|", "\\|").replace("<", "&lt;")
