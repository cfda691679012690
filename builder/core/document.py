"""The templates of the folder cards/, and a small document read as Markdown or as an HTML page."""

import base64
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import yaml

from builder.core.escape import markdown, one_line


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
        autoescape=jinja2.select_autoescape(("html.j2",), default_for_string=False),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters["json"] = json.dumps
    jinja.filters["number"] = lambda value: f"{value:,}"
    jinja.filters["share"] = lambda value, digits=1: f"{100 * value:.{digits}f} %"
    jinja.filters["size"] = file_size
    jinja.filters["cell"] = table_cell
    jinja.filters["md"] = markdown
    jinja.filters["line"] = one_line
    jinja.filters["yaml"] = lambda value: (
        yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
        .strip()
        .removesuffix("...")
        .strip()
    )
    return jinja


def file_size(size: int) -> str:
    """Bytes as a reader of a card wants them: 25.1 MB."""
    power = next(power for power in (9, 6, 3) if size >= 10**power or power == 3)
    return f"{size / 10**power:.1f} {'kMG'[power // 3 - 1]}B"


_TAG = re.compile("<(?=[A-Za-z/!?])")
_CODE = re.compile(r"`([^`]+)`")


@dataclass
class Document:
    """Blocks in reading order; text may hold `code` and nothing else that is markup."""

    title: str
    _blocks: list[tuple[str, ...]] = field(default_factory=list)
    """(Markdown, HTML), or (Markdown, alt, file) of a plot."""

    def heading(self, text: str) -> None:
        self._blocks.append((f"## {text}\n", f"<h2>{_inline(text)}</h2>"))

    def text(self, text: str) -> None:
        self._blocks.append((f"{text}\n", f"<p>{_inline(text)}</p>"))

    def items(self, lines: Sequence[str]) -> None:
        listed = "".join(f"<li>{_inline(line)}</li>\n" for line in lines)
        self._blocks.append(
            ("\n".join(f"- {line}" for line in lines) + "\n", f"<ul>\n{listed}</ul>")
        )

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """The first column is text, the others numbers."""
        lines = ["".join(f"<th>{_inline(cell)}</th>" for cell in header)]
        lines += ["".join(f"<td>{_inline(str(cell))}</td>" for cell in row) for row in rows]
        body = "\n".join(f"<tr>{line}</tr>" for line in lines)
        page = f'<div class="wide"><table>\n{body}\n</table></div>'
        self._blocks.append((table(header, rows), page))

    def plot(self, alt: str, name: str) -> None:
        """A PNG that lies beside the Markdown file and inside the page."""
        self._blocks.append((f"![{alt}]({name})\n", alt, name))

    def markdown(self) -> str:
        return "\n".join([f"# {self.title}\n", *(block[0] for block in self._blocks)])

    def page(self, folder: Path) -> str:
        """One self-contained HTML page; plots are read from ``folder``."""
        template = environment().get_template("document.html.j2")
        return template.render(
            title=self.title,
            blocks=[
                block[1] if len(block) == 2 else _image(folder, *block[1:])
                for block in self._blocks
            ],
        )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others numbers. Text may hold `code`."""
    rule = ["---", *("---:" for _ in header[1:])]
    lines = [header, rule, *rows]
    return "\n".join(f"| {' | '.join(map(table_cell, line))} |" for line in lines) + "\n"


def table_cell(text: object) -> str:
    """Our own text, which may hold `code`, in a Markdown table: on one line, without HTML.

    Text of others goes through `escape.markdown` instead.
    """
    return _TAG.sub("&lt;", one_line(str(text)).replace("|", "\\|"))


def _inline(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", html.escape(text, quote=False))


def _image(folder: Path, alt: str, name: str) -> str:
    data = base64.b64encode((folder / name).read_bytes()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'
