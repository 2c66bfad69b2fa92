"""A comparison of two revisions as Markdown: scores by method and set, other numbers, params."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from pipeline.project import MEASURES, SCORE_OF, UNIT, Measure, Number, Numbers, ScoreName, is_score, scores
from pipeline.results.metrics import Comparison

_ABSENT = "\N{EN DASH}"
_SHOWN = 40

Row = tuple[str, ...]


def comment(comparison: Comparison, *, everything: bool = False) -> str:
    """Write the comment.

    Args:
        comparison: what was read.
        everything: whether unchanged scores are listed as well.
    """
    before, after = (dict(scores(files)) for files in (comparison.before, comparison.after))
    names = [*after, *(name for name in before if name not in after)]
    changed = [name for name in names if before.get(name) != after.get(name)]
    parts = [f"### Scores against `{comparison.base}` ({comparison.commit})", _sentence(before, after, changed)]
    if rows := [_row(name, before.get(name), after.get(name)) for name in (names if everything else changed)]:
        heads = (*SCORE_OF, *(head for measure in MEASURES for head in (measure.title, "change")))
        parts.append(_table(heads, rows, text_columns=len(SCORE_OF)))
    if others := list(_others(comparison)):
        parts.append("Other numbers:\n\n" + _table(("file", "number", "before", "after"), others, text_columns=2))
    if comparison.params:
        rows = [(_value(key), _value(old), _value(new)) for key, old, new in comparison.params]
        more = f"\n\nand {len(rows) - _SHOWN} more." if len(rows) > _SHOWN else ""
        parts.append("Params:\n\n" + _table(("key", "before", "after"), rows[:_SHOWN], text_columns=1) + more)
    if comparison.absent:
        named = (PurePosixPath(name) for name in comparison.absent)
        names_absent = ", ".join(f"`{path.parent.name}/{path.stem}`" for path in named)
        parts.append(f"Not compared, because never run or neither in DVC's cache nor in its remote: {names_absent}.")
    return "\n\n".join(parts) + "\n"


def _others(comparison: Comparison) -> Iterator[Row]:
    """Changed numbers that are not scores of a set: sizes, FLOPs, the encoder."""
    for file in dict.fromkeys([*comparison.before, *comparison.after]):
        before, after = comparison.before.get(file, {}), comparison.after.get(file, {})
        for key in dict.fromkeys([*before, *after]):
            if not is_score(key) and before.get(key) != after.get(key):
                yield (f"`{file}`", key, _plain(before.get(key)), _plain(after.get(key)))


def _sentence(
    before: Mapping[ScoreName, Numbers], after: Mapping[ScoreName, Numbers], changed: Sequence[ScoreName]
) -> str:
    measure = MEASURES[0]
    both = [name for name in changed if name in before and name in after]
    moves = [after[name][measure.key] - before[name][measure.key] for name in both]
    counts = {
        "better": sum(move >= measure.least for move in moves),
        "worse": sum(move <= -measure.least for move in moves),
        "new": sum(name not in before for name in changed),
        "gone": sum(name not in after for name in changed),
    }
    counts[f"changed by less than {measure.least:g} {UNIT}"] = len(changed) - sum(counts.values())
    total = len(before.keys() | after.keys())
    said = [f"{count} {word}" for word, count in counts.items() if count]
    unchanged = total - len(changed)
    said += [f"{unchanged} unchanged"] if unchanged or not said else []
    return f"Of {total} scores (a method on a test set): {', '.join(said)}."


def _row(name: ScoreName, before: Numbers | None, after: Numbers | None) -> Row:
    cells: list[str] = []
    for measure in MEASURES:
        old, new = (values.get(measure.key) if values else None for values in (before, after))
        cells.append(_ABSENT if new is None else f"{new:.{measure.decimals}f}")
        if old is None or new is None:
            cells.append("new" if old is None and new is not None else "gone" if old is not None else _ABSENT)
        else:
            cells.append(_change(new - old, measure))
    return (*(f"`{part}`" for part in name), *cells)


def _change(value: float, measure: Measure) -> str:
    if value == 0:
        return "0"
    text = f"{value:+.{measure.decimals + (abs(value) < measure.least)}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def _plain(value: Number | None) -> str:
    return _ABSENT if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _value(value: object) -> str:
    if value is None:
        return _ABSENT
    return f"`{str(value).replace('|', chr(92) + '|')}`"


def _table(heads: Row, rows: Sequence[Row], text_columns: int) -> str:
    rules = ["---"] * text_columns + ["---:"] * (len(heads) - text_columns)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rules, *rows))
