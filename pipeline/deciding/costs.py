"""What a run takes: time and memory from the stages' last runs on this machine, disk from dvc.lock; or "not known"."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dvc.dependency import ParamsDependency
from dvc.repo import Repo

from pipeline.deciding.reproduce import upstream_of
from pipeline.graph.graph import as_value
from pipeline.graph.resources import in_bytes, read_resources
from pipeline.project import took, training_steps

_RUNS = ("run", "may run")
_NAMED = 3
Line = dict[str, Any]


def needs(repo: Repo, stage: Any, params: Mapping[str, Any]) -> Line:
    """What a stage says of its own needs: steps of training, bytes of outputs when they were last made, memory."""
    keys = [key for dependency in stage.deps if isinstance(dependency, ParamsDependency) for key in dependency.params]
    sizes = [out.meta.size if out.hash_info else None for out in stage.outs]
    return {
        "steps": training_steps({key: _value(params, key) for key in keys}),
        "output_bytes": None if None in sizes else sum(sizes),
        "memory_request": read_resources(as_value(stage, upstream_of(repo, stage), repo.root_dir)).memory,
    }


def _value(params: Any, key: str) -> Any:
    for part in key.split("."):
        params = params.get(part) if isinstance(params, Mapping) else None
    return params


def with_costs(lines: Iterable[Line]) -> list[Line]:
    """Lines of a plan with `seconds` and `memory_bytes` of each stage, if it runs; None = not known."""
    return [{**line, **_last_run(line["stage"], line["steps"])} for line in lines]


def _last_run(stage: str, steps: int | None) -> Line:
    found = took(stage)
    return {
        "seconds": found.seconds_for(steps) if found else None,
        "memory_bytes": found.memory if found else None,
    }


def shown(lines: Sequence[Line]) -> Iterator[str]:
    """The plan as people read it: a line a stage, the number of stages that run, and what they take together."""
    width = max((len(line["stage"]) for line in lines), default=0)
    running = any(line["will"] in _RUNS for line in lines)
    if running:
        yield f"{'stage':{width}}  {'will':7}  {'time':>7}  {'memory':>9}  {'disk':>7}  why"
    for line in lines:
        columns = [f"{line['stage']:{width}}", f"{line['will']:7}"]
        if line["will"] in _RUNS:
            memory = _size(line["memory_bytes"]) if line["memory_bytes"] else f"asks {line['memory_request']}"
            columns += [f"{_span(line['seconds']):>7}", f"{memory:>9}", f"{_size(line['output_bytes']):>7}"]
            columns.append("; ".join(line["reasons"]))
        yield "  ".join(columns).rstrip()
    counts = {word: sum(line["will"] == word for line in lines) for word in _RUNS}
    yield f"{counts['run']} of {len(lines)} stages will run, {counts['may run']} more may."
    if running:
        yield from _totals([line for line in lines if line["will"] in _RUNS])


def _totals(lines: Sequence[Line]) -> Iterator[str]:
    """What the stages that run take together; of memory, what the one that takes most does."""
    certain = [line for line in lines if line["will"] == "run"]
    for name, key, text in (("time", "seconds", _span), ("disk", "output_bytes", _size)):
        more = f", {_sum(lines, key, text)} with those that may" if len(certain) < len(lines) else ""
        yield f"{name}: {_sum(certain, key, text)}{more}{_unknown(lines, key)}"
    most = max((line["memory_bytes"] for line in lines if line["memory_bytes"]), default=None)
    asked = max((line["memory_request"] for line in lines if not line["memory_bytes"]), key=in_bytes, default="")
    request = f", which ask a cluster for up to {asked}" if asked else ""
    yield f"memory: {f'{_size(most)} at a time' if most else 'not known'}{_unknown(lines, 'memory_bytes')}{request}"


def _sum(lines: Sequence[Line], key: str, text: Callable[[float], str]) -> str:
    known = [line[key] for line in lines if line[key] is not None]
    if lines and not known:
        return "not known"
    return f"{'at least ' if len(known) < len(lines) else ''}{text(sum(known))}"


def _unknown(lines: Sequence[Line], key: str) -> str:
    """Names of the stages of which something is not known, after what is known of the others."""
    names = [line["stage"] for line in lines if line[key] is None]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"; not recorded: {', '.join(names[:_NAMED])}{more}" if names else ""


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    for most, unit, name in ((100, 1, "s"), (100 * 60, 60, "min"), (100 * 3600, 3600, "h")):
        if seconds < most:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} days"


def _size(size: float | None) -> str:
    if size is None:
        return "?"
    for most, unit, name in ((10**3, 1, "B"), (10**6, 10**3, "kB"), (10**9, 10**6, "MB")):
        if size < most:
            return f"{size / unit:.0f} {name}"
    return f"{size / 10**9:.1f} GB"
