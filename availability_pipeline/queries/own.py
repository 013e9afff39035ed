"""SQL of one's own: a question that only reads, and only the record.

A statement is read as DuckDB reads it before anything of it is evaluated. The tables it names must
be the record's, and its table functions are some that touch nothing else, so no file, address or
variable of Python gets into an answer. `enable_external_access` would do that for good, and for
every connection of this process to the file.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from availability_pipeline.queries.answers import Connection, Kind, QueryError, Rows, checked

_FUNCTIONS = frozenset(
    ("range", "generate_series", "unnest", "json_each", "json_tree", "repeat", "pragma_table_info",
     "duckdb_tables", "duckdb_views", "duckdb_columns", "duckdb_functions", "duckdb_types")
)  # fmt: skip

_SHOWN = frozenset(("tables", "databases", "schemas"))

_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT",
          "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")  # fmt: skip

_KINDS: dict[str, Kind] = {
    "DATE": "date",
    "TIMESTAMP WITH TIME ZONE": "instant",
    "BOOLEAN": "truth",
    "FLOAT": "share",
    "DOUBLE": "share",
    **dict.fromkeys(_WHOLE, "count"),
}


@checked()
def sql(con: Connection, text: str, **params: Any) -> Rows:
    """The answer to one SELECT of your own; `$name` in it is the argument of that name.

    The view `availability` has a row for each probed dataset, period and symbol; docs/query.md has
    all tables. It reads the record and nothing else: no file, no address, no variable of Python.

    Examples:
        >>> record.sql(
        ...     "SELECT status, count(*) AS n FROM availability "
        ...     "WHERE dataset = $dataset AND symbol = $symbol GROUP BY ALL ORDER BY ALL",
        ...     dataset="um/daily/klines/1m",
        ...     symbol="NMRUSDT",
        ... )
              status     n
        0     absent  2498
        1  available   119

    Raises:
        QueryError: it is not one SELECT, reads something else, or DuckDB refuses it.
    """
    users_select = text
    try:
        [(parsed,)] = con.execute("SELECT json_serialize_sql($1::VARCHAR)", [text]).fetchall()
        statements = json.loads(parsed)
        if statements["error"]:
            if statements["error_type"] == "not implemented":
                raise QueryError("give one SELECT; nothing else is evaluated here")
            raise QueryError(f"DuckDB cannot read this: {_line(statements['error_message'])}")
        if len(statements["statements"]) != 1:
            raise QueryError("give one SELECT; of several none is evaluated")
        _require_own(con, statements["statements"][0])
        cursor = con.execute(users_select, params)
        described = cursor.description or ()
        names = tuple(str(column[0]) for column in described)
        rows = cursor.fetchall()
    except duckdb.Error as error:
        raise QueryError(_line(str(error))) from None
    if len(set(names)) < len(names):
        raise QueryError(f"two columns have one name ({', '.join(names)[:200]}); give each its own")
    kinds = {name: _KINDS.get(str(of[1])) for name, of in zip(names, described, strict=True)}
    for n, name in enumerate(names):
        if kinds[name] == "count" and any(abs(row[n] or 0) >= 2**63 for row in rows):
            kinds[name] = None
    return Rows(names, rows, kinds=kinds)


def _line(text: str) -> str:
    return text.splitlines()[0][:300]


def _require_own(con: Connection, statement: Any) -> None:
    found = con.execute(
        """SELECT schema_name, table_name FROM duckdb_tables()
        WHERE database_name = current_database()
        UNION SELECT schema_name, view_name FROM duckdb_views()"""
    ).fetchall()
    known = {(schema.lower(), name.lower()) for schema, name in found}
    known |= {("", name) for _, name in known}
    for kind, schema, name in _read(statement, frozenset()):
        if kind == "table" and (schema.lower(), name.lower()) not in known:
            raise QueryError(f"{name!r:.120} is not a table or view of the record")
        if kind == "function" and name.lower() not in _FUNCTIONS:
            raise QueryError(f"{name!r:.120} may read something else than the record")


def _read(node: Any, expressions: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """What a statement reads: table or function, schema, name; without its WITH expressions."""
    if isinstance(node, list):
        for one in node:
            yield from _read(one, expressions)
        return
    if not isinstance(node, dict):
        return
    if entries := (node.get("cte_map") or {}).get("map"):
        names = {str(entry["key"]).lower() for entry in entries}
        # Only in its own place does such a name hide a file of that name, which has a dot in it.
        expressions |= {name for name in names if re.fullmatch(r"\w+", name)}
    kind = node.get("type")
    if kind == "BASE_TABLE":
        schema, name = str(node.get("schema_name") or ""), str(node.get("table_name"))
        if schema or name.lower() not in expressions:
            yield "table", schema, name
    elif kind == "SHOW_REF" and not node.get("query"):
        name = str(node.get("table_name")).strip('"')
        if name.lower() not in _SHOWN:
            yield "table", str(node.get("schema_name") or ""), name
    elif kind == "TABLE_FUNCTION":
        yield "function", "", str((node.get("function") or {}).get("function_name"))
    for value in node.values():
        yield from _read(value, expressions)
