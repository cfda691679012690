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
UNTYPED = re.compile(r"\b(?:dict|Mapping)\[str, Any\]")
DOCUMENTS = {
    "as_json": "writes a JSON document",
    "from_json": "reads a JSON document",
    "read_json": "reads a JSON document",
    "read_object": "reads a JSON document",
}
"""Public names that may hold an untyped JSON object, and why."""


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


def untyped(tree: ast.AST) -> set[str]:
    """Public functions, and public methods and fields of public classes after a dot (``.field``),
    that hold an untyped mapping in their annotations."""
    names: set[str] = set()

    def search(body: list[ast.stmt], dot: str) -> None:
        for node in body:
            parts: list[ast.expr | None] = []
            name = ""
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                parts = [node.returns, *(argument.annotation for argument in arguments)]
                name = node.name
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                parts, name = [node.annotation], node.target.id
            elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                search(node.body, ".")
            shown = [ast.unparse(part) for part in parts if part]
            if not name.startswith("_") and any(map(UNTYPED.search, shown)):
                names.add(dot + name)

    assert isinstance(tree, ast.Module)
    search(tree.body, "")
    return {name for name in names if name.strip(".") not in DOCUMENTS}


def untyped_joints(trees: dict[str, ast.AST]) -> list[str]:
    """module.name of what is `untyped` and used in another room, but for DOCUMENTS.

    A function counts where a module of another room imports its module and names it, a field or
    method where a module that imports from its room names an attribute like it.
    """
    joints = set()
    for module, tree in trees.items():
        for name in untyped(tree):
            for user, other in trees.items():
                if room(user) == room(module):
                    continue
                targets = imports(other)
                if name[0] == ".":
                    near = any(room(target) == room(module) for target in targets)
                    uses = (n.attr for n in ast.walk(other) if isinstance(n, ast.Attribute))
                    if near and name[1:] in uses:
                        joints.add(f"{module}{name}")
                elif module in targets and name in identifiers(other):
                    joints.add(f"{module}.{name}")
    return sorted(joints)


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
    joints = untyped_joints({names[path]: tree for path, tree in trees.items()})
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
        "untyped joints between rooms": ", ".join(joints) or 0,
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
