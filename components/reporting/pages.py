"""The report's two renderings: one self-contained HTML page, and Markdown with separate picture files."""

import base64
import hashlib
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from components.reporting.content import Content
from components.reporting.pictures import Picture
from components.reporting.tables import Column, Table

PICTURES = "pictures"
"""Folder of the Markdown twin's pictures, next to it."""

SECTIONS = (
    ("scores", "Scores"),
    ("costs", "Cost"),
    ("curves", "Curves"),
    ("gallery", "Gallery"),
    ("places", "Places"),
    ("images", "Images"),
    ("lost", "Lost"),
    ("data", "Data"),
    ("provenance", "Provenance"),
)
"""The page's anchors."""

_MARKED = re.compile(r"[\\`*\[\]~|]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown may take for markup; an underscore inside a word has no meaning."""


class _Markdown(str):
    """Text that is already Markdown."""

    __slots__ = ()


def html_page(content: Content) -> str:
    """Render the page, which contains style, charts and pictures, so that it loads nothing."""
    environment = _environment(autoescape=True, finalize=None)
    environment.filters |= {"minus": _minus, "breakable": _breakable}
    script, _, _ = environment.loader.get_source(environment, "page.js")  # type: ignore[union-attr]
    return environment.get_template("report.html.j2").render(
        content=content,
        sections=SECTIONS,
        script=Markup(script),  # noqa: S704 - the project's own
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def markdown_page(content: Content) -> str:
    """Render the same as Markdown, with its pictures in the folder `pictures` next to it."""
    environment = _environment(autoescape=False, finalize=_escaped)
    environment.filters |= {"table": _table, "image": _image}
    return environment.get_template("report.md.j2").render(content=content)


def _environment(**settings: Any) -> Environment:
    # Rule S701 does not apply: Markdown has no autoescape, and `finalize` escapes its values.
    return Environment(  # noqa: S701
        loader=PackageLoader("components.reporting"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **settings,
    )


def _minus(text: str) -> str:
    """Replace the hyphen before a number by a minus sign, which is as wide as the plus."""
    return re.sub(r"^-(?=\d)", "\N{MINUS SIGN}", text)


def _breakable(text: str) -> Markup:
    """Let a browser break a long path or name where its parts end."""
    return Markup(re.sub(r"(?<=[/_])(?=\w)", "<wbr>", str(escape(text))))  # noqa: S704 - escaped here


def _escaped(value: object) -> str:
    if isinstance(value, _Markdown):
        return value
    text = " ".join(str(value).replace("&", "&amp;").replace("<", "&lt;").split())
    return _Markdown(_MARKED.sub(lambda found: "\\" + found[0], text))


def _image(picture: Picture) -> _Markdown:
    return _Markdown(f"![{_escaped(picture.alt)}]({PICTURES}/{picture.file})")


def _table(table: Table) -> _Markdown:
    heads = [_head(column) for column in table.columns]
    rules = ["---:" if column.number else "---" for column in table.columns]
    rows = [[_bold(_escaped(_minus(cell.text)), strong=cell.tone == "best") for cell in row] for row in table.rows]
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows)]
    return _Markdown("\n".join([*lines, "", _escaped(table.caption)]))


def _head(column: Column) -> str:
    return _escaped(f"{column.text} ({column.group})" if column.group else column.text)


def _bold(text: str, *, strong: bool) -> str:
    return f"**{text}**" if strong else text
