"""Finding what a release must not tell: where something lies on the machine that made it."""

import re

_NAME = r"[\w.@+~*%-]+"
_PATH = re.compile(
    rf"(?<![^\s\"'`(=<>\[,])(?:file://\S+|(?:/|~/|[A-Za-z]:[\\/]+){_NAME}(?:[\\/]+{_NAME})+)"
)
"""Two names or more from a root, a home or a drive, where a word may begin: no part of a URL."""


def local_paths(text: str) -> list[str]:
    """The absolute paths that stand in a text, each once, in their order."""
    return list(dict.fromkeys(_PATH.findall(text)))
