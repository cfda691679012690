"""Text of others, so that what it is written into only shows it: one function for each target.

Titles, authors, captions, names of models and error messages come from recipes, servers and other
people's releases. YAML and JSON are written by their libraries, HTML by Jinja and `html.escape`.
"""

import re

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""C0, DEL and C1, of which escape sequences begin with one, line separators, marks of direction."""

_MARKUP = re.compile(r"([\\`*\[\]<>|~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;))")
_BLOCK = re.compile(r"^(\d{0,9})(#(?=#{0,5}(?:\s|$))|[-+=](?=[-+=\s]|$)|(?<=\d)[.)](?=\s|$))")
"""What begins a heading, a list, a rule or an underline."""
_FORMULA = ("=", "+", "-", "@", "\t", "\n")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def one_line(text: str) -> str:
    """Words with single spaces between them, and nothing that is not seen."""
    return _UNSEEN.sub("", " ".join(text.split()))


def terminal(text: str) -> str:
    """Lines and tabs stay; any other character that a terminal acts on is shown as ``\\u001b``."""
    return _UNSEEN.sub(
        lambda match: match[0] if match[0] in "\n\t" else f"\\u{ord(match[0]):04x}", text
    )


def markdown(text: str) -> str:
    """Text for a line or a table's cell of Markdown: no markup, HTML, formula or cell's end."""
    return _BLOCK.sub(r"\1\\\2", _MARKUP.sub(r"\\\1", one_line(text)))


def csv_cell(value: object) -> object:
    """A cell of a CSV that people open in a spreadsheet: text there is never a formula.

    Text that begins with = + - @, a tab or a line's end begins with ' instead, and other control
    characters are as in `terminal`; numbers stay.
    """
    if not isinstance(value, str):
        return value
    text = terminal(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def latex(text: str) -> str:
    """Text as LaTeX prints it: its ten special characters escaped, on one line."""
    return one_line(text).translate(_LATEX)
