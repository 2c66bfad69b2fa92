from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pytest
from pydantic import Field, ValidationError, model_validator

from components.run.errors import InputError
from components.run.params import Choice, Params, bind, build, fits, read_params, section, typed

Positive = Annotated[int, Field(gt=0)]


class Flat(Params):
    name: Literal["flat"]
    minimum: float = 0.0


class Steps(Params):
    name: Literal["steps"]
    milestones: tuple[int, ...]


class Recipe(Params):
    steps: Positive
    rate: float = Field(gt=0)
    schedule: Annotated[Flat | Steps, Field(discriminator="name")] = Flat(name="flat")


class Named(Params):
    title: str


class Network(Params):
    recipe: Recipe | None = None
    recipes: tuple[Recipe, ...] = ()
    by_name: dict[str, Recipe] = Field(default_factory=dict)


def small(channels: Positive = 8, widths: tuple[int, ...] = (1,), *, residual: float = 1.0) -> dict[str, Any]:
    return {"channels": channels, "widths": widths, "residual": residual}


def scaled(scale: int, recipe: Recipe) -> tuple[int, Recipe]:
    return scale, recipe


RECIPE = {"steps": 10, "rate": 0.1}


def refused(kind: Any, value: Any) -> str:
    with pytest.raises(InputError) as caught:
        typed(kind, value, "params.yaml: student")
    return str(caught.value)


class TestTyped:
    def test_values_are_converted_and_defaults_filled_in(self) -> None:
        recipe = typed(Recipe, {"steps": 10.0, "rate": 0.001}, "x")
        assert recipe == Recipe(steps=10, rate=0.001, schedule=Flat(name="flat"))

    @pytest.mark.parametrize("text", ["10", "1e1", "1_0", " 10", "0.5", "-1"])
    @pytest.mark.parametrize("key", ["steps", "rate"])
    def test_a_text_is_no_number(self, key: str, text: str) -> None:
        told = refused(Recipe, {**RECIPE, key: text})
        assert told.startswith(f"params.yaml: student.{key}: ")
        assert repr(text) in told

    def test_a_number_is_no_text_and_quotes_make_it_one(self) -> None:
        assert "found 1000. Put quotes around a text." in refused(Named, {"title": 1_000})

    def test_a_section_is_frozen(self) -> None:
        recipe = typed(Recipe, RECIPE, "x")
        with pytest.raises(ValidationError, match="frozen"):
            recipe.steps = 3

    def test_a_default_is_checked_like_a_value(self) -> None:
        class Wrong(Params):
            steps: int = "many"  # type: ignore[assignment]

        assert "steps" in refused(Wrong, {})

    def test_a_mistyped_key_is_named_with_its_place_a_guess_and_those_there_are(self) -> None:
        assert refused(Recipe, RECIPE | {"setps": 3}) == (
            "params.yaml: student: unknown key 'setps'. Did you mean 'steps'? There are: rate, schedule, steps."
        )

    def test_a_key_unlike_any_is_refused_without_a_guess(self) -> None:
        assert refused(Recipe, RECIPE | {"qqqq": 3}) == (
            "params.yaml: student: unknown key 'qqqq'. There are: rate, schedule, steps."
        )

    def test_a_key_with_a_dot_keeps_its_name(self) -> None:
        assert "student: unknown key 'training.steps'." in refused(Recipe, RECIPE | {"training.steps": 3})

    @pytest.mark.parametrize(
        ("value", "place"),
        [
            ({"recipe": RECIPE | {"setps": 3}}, "student.recipe"),
            ({"recipes": [RECIPE, RECIPE | {"setps": 3}]}, "student.recipes.1"),
            ({"by_name": {"long": RECIPE | {"setps": 3}}}, "student.by_name.long"),
        ],
        ids=["optional", "item of a list", "entry of a mapping"],
    )
    def test_a_mistyped_key_deep_inside_is_found(self, value: Any, place: str) -> None:
        message = refused(Network, value)
        assert f"params.yaml: {place}: unknown key 'setps'. Did you mean 'steps'?" in message
        assert "There are: rate, schedule, steps." in message

    @pytest.mark.parametrize(
        ("schedule", "known"),
        [
            ({"name": "flat", "minimun": 3}, "'minimun'. Did you mean 'minimum'? There are: minimum, name."),
            (
                {"name": "steps", "milestones": [1], "milestonez": [3]},
                "'milestonez'. Did you mean 'milestones'? There are: milestones, name.",
            ),
        ],
    )
    def test_a_mistyped_key_of_one_of_several_kinds_lists_the_keys_of_that_kind(
        self, schedule: dict[str, Any], known: str
    ) -> None:
        """And its place is what stands in params.yaml, not pydantic's `schedule.flat`."""
        message = refused(Recipe, RECIPE | {"schedule": schedule})
        assert message == f"params.yaml: student.schedule: unknown key {known}"

    def test_an_unknown_kind_is_refused_with_those_there_are(self) -> None:
        message = refused(Recipe, RECIPE | {"schedule": {"name": "flta"}})
        assert message.startswith("params.yaml: student.schedule: ")
        assert "'flta'" in message
        assert "'flat', 'steps'" in message

    def test_a_missing_key_is_named(self) -> None:
        assert refused(Recipe, {"rate": 0.1}) == "params.yaml: student.steps: missing; write a value for it."

    @pytest.mark.parametrize(
        ("key", "value"), [("steps", "many"), ("steps", 1.5), ("steps", 0), ("steps", None), ("rate", [1]), ("rate", 0)]
    )
    def test_a_mistyped_value_is_named_with_its_place_and_what_was_found(self, key: str, value: object) -> None:
        message = refused(Recipe, RECIPE | {key: value})
        assert message.startswith(f"params.yaml: student.{key}: Input should be ")
        assert message.endswith(f"; found {value!r}.")

    def test_every_fault_has_its_line(self) -> None:
        message = refused(Recipe, {"steps": "many", "rat": 0.1})
        assert [line.split(" ")[1] for line in message.splitlines()] == [
            "student.steps:",
            "student.rate:",
            "student:",
        ]

    def test_a_section_that_is_none_is_refused(self) -> None:
        assert refused(Recipe, 7) == (
            "params.yaml: student: Input should be a valid dictionary or instance of Recipe; found 7."
        )


class TestBind:
    def test_arguments_get_the_types_of_the_signature(self) -> None:
        arguments = bind("x", small, {"widths": [1, 2], "residual": 1})
        assert arguments == {"channels": 8, "widths": (1, 2), "residual": 1.0}
        assert isinstance(arguments["residual"], float)
        assert small(**arguments)["widths"] == (1, 2)

    def test_a_class_is_bound_by_its_constructor(self) -> None:
        class Wide:
            def __init__(self, channels: int, depth: int = 2) -> None:
                self.channels, self.depth = channels, depth

        assert bind("x", Wide, {"channels": 3}) == {"channels": 3, "depth": 2}

    def test_a_nested_section_stays_a_section(self) -> None:
        assert bind("x", scaled, {"recipe": RECIPE}, skip=1) == {"recipe": Recipe(steps=10, rate=0.1)}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"chanels": 3}, "place: unknown key 'chanels'. Did you mean 'channels'? There are: channels, residual, "),
            ({"channels": "wide"}, "place.channels: Input should be a valid integer"),
            ({"channels": 0}, "place.channels: Input should be greater than 0; found 0."),
            ({"widths": 3}, "place.widths: Input should be a valid tuple; found 3."),
        ],
    )
    def test_what_the_signature_does_not_allow_is_refused(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError) as caught:
            bind("place", small, arguments)
        assert str(caught.value).startswith(message)

    def test_a_missing_argument_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"^place.recipe: missing; write a value for it\.$"):
            bind("place", scaled, {}, skip=1)

    def test_what_the_caller_passes_itself_is_no_key(self) -> None:
        with pytest.raises(InputError, match=r"^place: unknown key 'scale'\. There are: recipe\.$"):
            bind("place", scaled, {"scale": 3, "recipe": RECIPE}, skip=1)


TABLE: dict[str, Callable[..., Any]] = {"small": small, "scaled": scaled}


class Checked(Choice):
    @model_validator(mode="after")
    def _fits(self) -> Self:
        fits(TABLE, self)
        return self


class TestChoice:
    def test_it_is_built_with_its_arguments(self) -> None:
        choice = typed(Choice, {"name": "small", "channels": 4, "widths": [2, 3]}, "x")
        assert choice.arguments == {"channels": 4, "widths": [2, 3]}
        assert build("x", TABLE, choice) == {"channels": 4, "widths": (2, 3), "residual": 1.0}

    def test_leading_arguments_come_first(self) -> None:
        choice = Choice.model_validate({"name": "scaled", "recipe": RECIPE})
        assert build("x", TABLE, choice, 3) == (3, Recipe(steps=10, rate=0.1))

    def test_null_takes_an_argument_back(self) -> None:
        choice = Choice.model_validate({"name": "small", "channels": 4, "residual": None})
        assert choice.arguments == {"channels": 4}

    def test_an_entry_that_fits_is_let_through(self) -> None:
        fits(TABLE, Choice.model_validate({"name": "scaled", "recipe": RECIPE}), skip=1)

    def test_an_unknown_name_lists_the_table(self) -> None:
        with pytest.raises(InputError, match=r"^name: unknown name 'smal'\. Did you mean 'small'\? There are: scaled,"):
            fits(TABLE, Choice(name="smal"))

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ({"name": "smal"}, "student.name: unknown name 'smal'. Did you mean 'small'? There are: scaled, small."),
            ({"name": "small", "chanels": 3}, "student: unknown key 'chanels'. Did you mean 'channels'? There are: "),
            ({"name": "small", "channels": "a"}, "student.channels: Input should be a valid integer"),
            ({"channels": 3}, "student.name: missing; write a value for it."),
            ({"name": "scaled", "scale": 2, "recipe": {"rate": 1}}, "student.recipe.steps: missing; write a value"),
        ],
    )
    def test_a_type_that_checks_its_choice_names_the_place_in_params(self, value: object, message: str) -> None:
        assert refused(Checked, value).startswith(f"params.yaml: {message}")

    def test_every_fault_of_a_choice_has_its_line(self) -> None:
        lines = refused(Checked, {"name": "small", "chanels": 3, "widths": 3}).splitlines()
        assert [line.split(" ")[1] for line in lines] == ["student.widths:", "student:"]


VALUES = {"tasks": {"sr": {"scale": 2}}, "run": None}


class TestSection:
    def test_is_found_by_its_keys(self) -> None:
        assert section(VALUES, "tasks", "sr") == {"scale": 2}

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            (("task",), "params.yaml: sections: unknown name 'task'. Did you mean 'tasks'? There are: run, tasks."),
            (("tasks", "srr"), "params.yaml: tasks: unknown name 'srr'. Did you mean 'sr'? There are: sr."),
            (("run", "tasks"), "params.yaml: run: expected a section with the key 'tasks', found None."),
        ],
    )
    def test_a_missing_key_lists_those_there_are(self, keys: tuple[str, ...], message: str) -> None:
        with pytest.raises(InputError) as caught:
            section(VALUES, *keys)
        assert str(caught.value) == message


class TestReadParams:
    def test_reads_plain_values(self, tmp_path: Path) -> None:
        path = tmp_path / "params.yaml"
        path.write_text("tasks: {sr: {scale: 2}}\n")
        assert read_params(path) == {"tasks": {"sr": {"scale": 2}}}

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "not found. Run the command from the project's folder."),
            (b"tasks: {sr: [}\n", "not valid YAML: "),
            (b"tasks: \xff\xfe\n", "not a readable text file in UTF-8"),
            (b"- sr\n", "expected sections (name: ...), found list."),
            (b"", "expected sections (name: ...), found NoneType."),
        ],
        ids=["missing", "broken", "not UTF-8", "a list", "empty"],
    )
    def test_a_file_that_is_none_is_refused(self, content: bytes | None, message: str, tmp_path: Path) -> None:
        path = tmp_path / "params.yaml"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_params(path)
        assert str(caught.value).startswith(f"{path}: {message}")
        assert "\n" not in str(caught.value)

    def test_a_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="not a readable text file"):
            read_params(tmp_path)
