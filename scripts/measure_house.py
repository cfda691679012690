"""The size and shape of the house: modules, rooms, imports between them, and untyped joints.

    python scripts/measure_house.py [CHECKOUT]

Prints one table. A room is a folder of builder/, or a module that lies flat in it; an import is
counted once for each pair of rooms, and imports inside functions count like any other. A circle is
a set of rooms that import each other.
"""

import argparse
import ast
import re
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.sparse.csgraph import connected_components

DIALECT = ("one", "told", "found", "made")


def room(module: str) -> str:
    """builder.release.card → release; builder.store → store."""
    return module.split(".")[1] if "." in module else module


def imports(tree: ast.AST) -> set[str]:
    """Modules of builder that a module names in its imports."""
    named: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            named |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
    return {name for name in named if name.startswith("builder.")}


def identifiers(tree: ast.AST) -> list[str]:
    """Every name, parameter, keyword, attribute and function name of a module."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.append(node.id)
        elif isinstance(node, ast.arg | ast.keyword):
            names.append(node.arg or "")
        elif isinstance(node, ast.Attribute):
            names.append(node.attr)
        elif isinstance(node, ast.FunctionDef):
            names.append(node.name)
    return names


def measure(checkout: Path) -> dict[str, object]:
    """Figure → value, of the folder builder/ of a checkout."""
    paths = sorted((checkout / "builder").rglob("*.py"))
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    names = {
        path: ".".join(path.relative_to(checkout).with_suffix("").parts).removesuffix(".__init__")
        for path in paths
    }
    rooms = sorted({room(name) for name in names.values()} - {"builder", "__main__"})
    arrows = {
        (room(names[path]), room(target))
        for path, tree in trees.items()
        for target in imports(tree)
    }
    arrows = {(a, b) for a, b in arrows if a != b and a in rooms and b in rooms}
    graph = np.zeros((len(rooms), len(rooms)))
    for a, b in arrows:
        graph[rooms.index(a), rooms.index(b)] = 1
    groups = connected_components(graph, directed=True, connection="strong")[1]
    functions = [
        (node.end_lineno - node.lineno + 1, f"{names[path]}.{node.name}")
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.end_lineno
    ]
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    text = "\n".join(texts.values())
    lines: Counter[str] = Counter()
    for path in paths:
        lines[room(names[path])] += texts[path].count("\n")
    dialect = Counter(name for tree in trees.values() for name in identifiers(tree))
    return {
        "modules": len(paths),
        "modules flat in builder/": sum(path.parent.name == "builder" for path in paths),
        "lines": sum(lines.values()),
        "rooms": len(rooms),
        "imports between rooms": len(arrows),
        "circles of rooms": sum(n > 1 for n in Counter(groups.tolist()).values()),
        "longest function": "{1} ({0} lines)".format(*max(functions)),
        "longest module": max((t.count("\n"), names[p]) for p, t in texts.items()),
        "dict[str, Any] and Mapping[str, Any]": len(
            re.findall(r"(?:dict|Mapping)\[str, Any\]", text)
        ),
        "string subscripts": sum(
            isinstance(node, ast.Subscript)
            and isinstance(node.slice, ast.Constant)
            and isinstance(node.slice.value, str)
            for node in nodes
        ),
        "Any": len(re.findall(r"\bAny\b", text)),
        "identifiers " + ", ".join(DIALECT): sum(dialect[word] for word in DIALECT),
        "lines by room": ", ".join(f"{name} {count:,}" for name, count in sorted(lines.items())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[1])
    for figure, value in measure(parser.parse_args().checkout).items():
        print(f"{figure:<40} {value}")


if __name__ == "__main__":
    main()
