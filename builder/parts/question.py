"""The question: one condition in SQL over the rows of config metadata, asked by DuckDB.

DuckDB sees Arrow tables that aras hands it and nothing else: it opens no file, loads no extension
and takes no setting from the question.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from builder.core.errors import ArasError, blame_memory
from builder.land.columns import BY_NAME, CAPTION_SCORES
from builder.land.score_columns import SCORE_COLUMNS

CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "lock_configuration": True,
    "threads": 1,
}
SCORES = "caption_scores"
ROWS = "metadata"
"""The name of the table in a question."""


class Question:
    """A condition that rows meet: an expression over ``schema``, that of config metadata.

    A ClassLabel is asked by its name (``dominant = 'Water'``), a score of captions by its own,
    which means the mean over the row's captions (``grounding > 0.8``).

    Raises ArasError for what is not one condition, with DuckDB's words and the columns there are.
    """

    def __init__(self, where: str, schema: pa.Schema) -> None:
        self.where = where.strip()
        self.schema = schema
        self.held = {name.lower(): name for name in schema.names}
        self.scores = _scores(schema)
        self.database = duckdb.connect(":memory:", config=CONFIG)
        asked = set(_names(self._parse())) if self.where else set()
        is_all = "*" in asked
        self.columns = tuple(n for n in schema.names if is_all or n.lower() in asked)
        """The columns that the question needs."""
        self.means = tuple(n for n in self.scores if is_all or n.lower() in asked)
        if self.where:
            self._select(schema.empty_table(), schema.names, list(self.scores))

    @property
    def leaves(self) -> tuple[str, ...]:
        """What to read for it: columns, and of the scores of captions only those asked for."""
        if SCORES in self.columns:
            return self.columns
        return (*self.columns, *(f"{SCORES}.list.element.{name}" for name in self.means))

    def rows(self, table: pa.Table) -> npt.NDArray[np.int64]:
        """Positions of the rows of ``table`` (`leaves` and more) that meet the condition, sorted.

        Raises ArasError for a condition that DuckDB cannot compute on them.
        """
        if not self.where:
            return np.arange(table.num_rows)
        return np.sort(self._select(table, self.columns, self.means))

    def _select(
        self, table: pa.Table, columns: Sequence[str], means: Sequence[str]
    ) -> npt.NDArray[np.int64]:
        shown = [*(_shown(self.schema.field(name)) for name in columns), *map(_mean, means)]
        batch = table.append_column("row number", pa.array(np.arange(table.num_rows)))
        self.database.register("batch", batch)
        try:
            answer = self.database.execute(
                f'SELECT "row number" FROM (SELECT "row number", {", ".join(shown) or "1"} FROM '
                f"batch) AS {ROWS} WHERE (\n{self.where}\n)"
            ).fetchnumpy()
        except duckdb.Error as error:
            blame_memory(error)
            raise self._refused(str(error)) from error
        finally:
            self.database.unregister("batch")
        return np.asarray(answer["row number"], np.int64)

    def _parse(self) -> Any:
        """The condition as DuckDB's tree of JSON; ArasError unless it is one condition."""
        query = f"SELECT 1 FROM {ROWS} WHERE (\n{self.where}\n)"
        ((text,),) = self.database.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
        answer = json.loads(text)
        if answer.get("error"):
            raise self._refused(str(answer.get("error_message", "not SQL")))
        nodes = [statement["node"] for statement in answer["statements"]]
        rest = ("modifiers", "group_expressions", "having", "qualify", "sample")
        if len(nodes) != 1 or nodes[0]["type"] != "SELECT_NODE" or any(nodes[0][k] for k in rest):
            raise self._refused("expected one condition, as after WHERE")
        condition = nodes[0]["where_clause"]
        if any(node.get("class") == "SUBQUERY" for node in _nodes(condition)):
            raise self._refused("a condition is about one row: no SELECT in it")
        return condition

    def _refused(self, words: str) -> ArasError:
        columns = ", ".join(self.schema.names)
        scores = f"\nmeans over the captions of a row: {', '.join(self.scores)}"
        return ArasError(
            f"--where: {words.strip()}\ncolumns: {columns}{scores if self.scores else ''}"
        )


def _scores(schema: pa.Schema) -> tuple[str, ...]:
    """Scores of captions that can be asked for by their own names."""
    if SCORES not in schema.names:
        return ()
    numbers = {
        field.name: field.type for field in CAPTION_SCORES.value_type if field.name in SCORE_COLUMNS
    }
    return tuple(
        name
        for name, kind in numbers.items()
        if name not in schema.names and (pa.types.is_floating(kind) or pa.types.is_integer(kind))
    )


def _shown(field: pa.Field) -> str:
    """A column as the question sees it."""
    name, column = f'"{field.name}"', BY_NAME.get(field.name)
    if column is None or not column.labels:
        return name
    labels = ", ".join(f"'{label}'" for label in column.labels)
    return f"list_extract([{labels}], {name} + 1) AS {name}"


def _mean(score: str) -> str:
    return f'list_avg([caption."{score}" for caption in {SCORES}]) AS "{score}"'


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _names(tree: Any) -> Iterator[str]:
    """Every name in a condition, in lower case; ``*`` where it asks for columns by a pattern."""
    for node in _nodes(tree):
        if node.get("class") == "STAR":
            yield "*"
        if node.get("class") == "COLUMN_REF":
            yield from (name.lower() for name in node["column_names"])
