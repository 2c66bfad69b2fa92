"""Which code files a step runs: its checkpoint's key is made from them, and dvc.yaml lists them."""

import ast
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
PACKAGE = "components"
TABLES = {name: f"{PACKAGE}.{name}" for name in ("methods", "backbones", "tasks")}
"""Packages whose `__init__.py` is a table: it imports every entry, but a step runs only those it is given."""

_WITHOUT_EFFECT = (f"{PACKAGE}.telemetry", f"{PACKAGE}.dependencies")
"""Packages that change no byte of an output."""


@cache
def entries(table: str) -> dict[str, str]:
    """Module of each entry of a table, `{"carn_m": "components.backbones.carn"}`, without importing it.

    Args:
        table: `methods`, `backbones` or `tasks`.
    """
    tree = ast.parse(_file(TABLES[table]).read_text(encoding="utf-8"))
    imported = {
        alias.name: str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    (literal,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict) and _named(node, table.upper())
    )
    return {
        str(key.value): imported[value.id]
        for key, value in zip(literal.keys, literal.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(value, ast.Name)
    }


def modules_of(roots: Iterable[str], chosen: Collection[str] = ()) -> frozenset[str]:
    """Modules that `roots` run: all that they import, directly or not, within this package.

    Modules without effect on an output are left out, and so are the tables and the entries that are not
    `chosen`: another line in a table changes no result.

    Args:
        roots: dotted names, such as `components.distill`.
        chosen: modules of the tables' entries that are used.
    """
    graph, skipped = _imports(), table_modules() - set(chosen)
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module in found or module.startswith(_WITHOUT_EFFECT):
            continue
        found.add(module)
        above = graph.find_modules_directly_imported_by(module)
        if module in TABLES.values():
            above -= skipped
        # A package's own file runs before its modules do.
        waiting += [*above, module.rpartition(".")[0]] if module.count(".") > 1 else above
    return frozenset(module for module in found - set(TABLES.values()) if _does_something(module))


def files_of(modules: Iterable[str]) -> list[str]:
    """Files of modules, relative to the project's folder, sorted."""
    return sorted(_file(module).relative_to(ROOT).as_posix() for module in modules)


@cache
def _imports() -> grimp.ImportGraph:
    return grimp.build_graph(PACKAGE, cache_dir=None)


@cache
def _does_something(module: str) -> bool:
    """Whether a module's file has more than a docstring, unlike most packages' `__init__.py`."""
    return len(ast.parse(_file(module).read_text(encoding="utf-8")).body) > 1


@cache
def table_modules() -> frozenset[str]:
    """Modules of all entries of all tables."""
    return frozenset(module for table in TABLES for module in entries(table).values())


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _named(node: ast.AnnAssign, name: str) -> bool:
    return isinstance(node.target, ast.Name) and node.target.id == name
