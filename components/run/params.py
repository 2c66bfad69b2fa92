"""params.yaml as it enters the program: read once, typed and frozen; unknown keys are refused."""

import inspect
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model, model_validator

from components.run.errors import InputError, unknown_name
from components.run.renamed import RENAMED, moved_to, now_called
from components.run.yaml_values import NotYamlError, misread, read_yaml

PARAMS_FILE = Path("params.yaml")

Built = TypeVar("Built")

_TOO_LARGE = 2**63

Positive = Annotated[int, Field(gt=0)]

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""The weight of a loss: no method of the field has a negative one, which would reward what a loss punishes."""


class Params(BaseModel):
    """Base of every typed section: frozen, unknown keys refused, defaults checked like given values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


Name = Annotated[str, Field(pattern=r"^\w+$")]
Names = tuple[Name, ...]


class MethodsByNeed(Params):
    """Names of methods, by what their training needs besides the task's teacher.

    Attributes:
        teacher: nothing else.
        encoder: the frozen encoder.
        ensemble: the ensemble of several teachers.
        privileged_teacher: the teacher that sees the clean image.
    """

    teacher: Names = ()
    encoder: Names = ()
    ensemble: Names = ()
    privileged_teacher: Names = ()


class Run(Params):
    """What a run covers.

    Attributes:
        tasks: each a key of `tasks`, `collections` and the other sections by task.
        seeds: of the students: every method trains one per seed.
        methods: the methods, in the order in which pages list them.
        members: names of further teachers for the ensemble; `teachers` lists each as `TASK_MEMBER`.
    """

    tasks: Names = Field(min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(min_length=1)
    methods: MethodsByNeed
    members: Names = ()

    @property
    def all_methods(self) -> Names:
        """The methods of all groups, one group after the other."""
        return tuple(name for group in MethodsByNeed.model_fields for name in getattr(self.methods, group))

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for key, names in (("seeds", self.seeds), ("methods", self.all_methods), ("members", self.members)):
            if twice := sorted({str(name) for name in names if names.count(name) > 1}):
                raise ValueError(f"{key}: {', '.join(twice)} is listed twice; list each once")
        return self


def without_nulls(values: Any) -> Any:
    """A mapping without its null entries.

    A preset can only add to the values it overlays: where it chooses another entry, it removes the former one's
    arguments by setting them to `null`.
    """
    return {key: value for key, value in values.items() if value is not None} if isinstance(values, dict) else values


class Choice(BaseModel):
    """An entry of a table and the arguments it is built with: `{name: edsr, channels: 64, blocks: 16}`.

    The arguments are checked against that entry's own signature (`fits`). An argument of null counts as not given.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: Any) -> Any:
        return without_nulls(values)

    @property
    def arguments(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Read params.yaml as plain values.

    Raises:
        InputError: the file is missing, unreadable, not YAML or not a mapping, has a section under its old name, or a
            value that DVC would read otherwise.
    """
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found. Run the command from the project's folder.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable text file in UTF-8 ({error}).") from None
    except NotYamlError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected sections (name: ...), found {type(values).__name__}.")
    if old := [name for name in values if name in RENAMED]:
        # Nothing would read it, and the intended value would be ignored.
        raise InputError("\n".join(now_called(f"{path}: {name}", name) for name in old))
    if faults := list(misread(values, str(path))):
        raise InputError("\n".join(fault.replace(f"{path}.", f"{path}: ", 1) for fault in faults))
    return values


def section(values: Mapping[str, Any], *keys: str) -> Any:
    """Return `values[keys[0]][keys[1]]...`; the error for a missing key lists the existing ones."""
    found: Any = values
    for depth, key in enumerate(keys):
        where = f"{PARAMS_FILE}: {'.'.join(keys[:depth]) or 'sections'}"
        if not isinstance(found, Mapping):
            raise InputError(f"{where}: expected a section with the key {key!r}, found {found!r}.")
        if key not in found:
            raise unknown_name(where, key, map(str, found))
        found = found[key]
    return found


def typed(kind: Any, value: Any, where: str) -> Any:
    """Check `value` against the type `kind` (a `Params`, `Choice` or any annotation pydantic knows).

    Raises:
        InputError: one line per fault: the key, what was found, what is expected.
    """
    try:
        found = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise InputError(_explain(error, kind, where)) from None
    if faults := list(_misread(value, found, where)):
        raise InputError("\n".join(faults))
    return found


def bind(where: str, make: Callable[..., Any], arguments: Mapping[str, Any], skip: int = 0) -> dict[str, Any]:
    """Check `arguments` against the signature of `make` and return them converted to its annotated types.

    Args:
        where: the key in params.yaml that the arguments come from, for messages.
        make: a class or function; its annotations are the schema.
        arguments: the values found in params.yaml.
        skip: how many leading parameters the caller passes itself.

    Raises:
        InputError: an unknown, missing or ill-typed argument.
    """
    target = make.__init__ if inspect.isclass(make) else make
    hints = typing.get_type_hints(target, include_extras=True)
    parameters = list(inspect.signature(make).parameters.values())[skip:]
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
        for parameter in parameters
    }
    schema = create_model(where, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields)
    checked = typed(schema, dict(arguments), where)
    return {parameter.name: getattr(checked, parameter.name) for parameter in parameters}


def fits(table: Mapping[str, Callable[..., Any]], choice: Choice, skip: int = 0) -> None:
    """Check that a choice names an entry of `table` and that its arguments fit that entry's signature.

    Raises:
        InputError: the name is not in the table (the message lists the table), or an argument does not fit.
    """
    if choice.name not in table:
        raise unknown_name("name", choice.name, table)
    bind("", table[choice.name], choice.arguments, skip)


def build(where: str, table: Mapping[str, Callable[..., Built]], choice: Choice, *leading: Any) -> Built:
    """Build the entry of `table` that `choice` names, from `leading` and the choice's arguments.

    The choice was checked by `fits` where it was read.
    """
    make = table[choice.name]
    return make(*leading, **bind(where, make, choice.arguments, skip=len(leading)))


def _misread(given: Any, found: Any, key: str) -> Iterator[str]:
    """Faults of numbers that every type would let pass: pydantic takes true for 1, and .inf for a number."""
    if isinstance(given, Mapping):
        for name, value in given.items():
            inside = found.get(name) if isinstance(found, Mapping) else getattr(found, str(name), None)
            yield from _misread(value, inside, f"{key}.{name}" if key else str(name))
    elif isinstance(given, list | tuple) and isinstance(found, list | tuple):
        for index, (value, inside) in enumerate(zip(given, found, strict=False)):
            yield from _misread(value, inside, f"{key}.{index}")
    elif isinstance(found, int | float):
        if isinstance(given, bool) and not isinstance(found, bool):
            yield f"{key}: expected a number, not {str(given).lower()}."
        elif isinstance(given, str) and not isinstance(found, bool):
            yield f"{key}: expected a number, not the text {given!r}; write it without quotes."
        elif isinstance(found, bool) and not isinstance(given, bool | str):
            yield f"{key}: expected true or false, not {given!r}."
        elif not math.isfinite(found) or abs(found) >= _TOO_LARGE:
            yield f"{key}: {found!r} is no number to compute with: write a finite one below 2**63."


def _explain(error: ValidationError, kind: Any, where: str) -> str:
    lines = []
    faults = error.errors(include_url=False)
    extra = [fault["loc"] for fault in faults if fault["type"] == "extra_forbidden"]
    given = {(*place, RENAMED.get(str(name))) for *place, name in extra}
    for fault in faults:
        location, known = _located(kind, fault["loc"])
        if location[-1:] == ["[key]"]:  # the name itself is wrong: it is told as what was found
            location = location[:-2]
        key = ".".join(filter(None, [where, *location]))
        if fault["type"] == "extra_forbidden" and RENAMED.get(location[-1]) in known:
            lines.append(now_called(key, location[-1]))
        elif fault["type"] == "missing" and fault["loc"] in given:
            continue  # it is given under its old name
        elif fault["type"] == "too_short" and any(_inside(other["loc"], fault["loc"]) for other in faults):
            continue  # an item has its own message
        elif fault["type"] == "extra_forbidden" and (place := moved_to(key)):
            lines.append(f"{key}: this has moved to {place}; write it there.")
        elif fault["type"] == "extra_forbidden":
            parent = ".".join(filter(None, [where, *location[:-1]]))
            lines.append(str(unknown_name(parent, location[-1], known)).replace("unknown name", "unknown key"))
        elif fault["type"] == "missing":
            lines.append(f"{key}: missing; write a value for it.")
        elif isinstance(cause := fault.get("ctx", {}).get("error"), InputError):
            lines += [key + (line if line.startswith(":") else f".{line}") for line in str(cause).splitlines()]
        else:
            quotes = " Put quotes around a text." if fault["type"] == "string_type" else ""
            lines.append(f"{key}: {fault['msg'].removeprefix('Value error, ')}; found {fault['input']!r}.{quotes}")
    return "\n".join(lines)


def _inside(place: tuple[int | str, ...], above: tuple[int | str, ...]) -> bool:
    return len(place) > len(above) and place[: len(above)] == above


def _located(kind: Any, location: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """Keys that lead to a fault, and the names of the fields beside it, found by walking the types along its location.

    In a union of models that differ by a literal (`{name: cosine, ...}`), pydantic puts that literal into the location,
    though params.yaml has no such key.
    """
    keys: list[str] = []
    models = _models(kind)
    for step in location[:-1]:
        fields = [model.model_fields[step] for model in models if step in model.model_fields]
        tagged = [model for model in models if step in _tags(model)]
        if not fields and len(models) > len(tagged) > 0:
            models = tagged
            continue
        keys.append(str(step))
        models = [model for field in fields for model in _models(field.annotation)] if fields else models
    return [*keys, *map(str, location[-1:])], [name for model in models for name in model.model_fields]


def _models(kind: Any) -> list[type[BaseModel]]:
    """The models that an annotation names: itself, the cases of a union, the items of a tuple, the values of a dict."""
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        return [kind]
    return [model for argument in typing.get_args(kind) for model in _models(argument)]


def _tags(model: type[BaseModel]) -> set[Any]:
    """The literals that the model's fields allow."""
    literals = (field.annotation for field in model.model_fields.values())
    return {value for literal in literals for value in typing.get_args(literal) if isinstance(value, str)}
