"""Great Expectations run over the table of images: outcomes as plain values, and its own pages (Data Docs).

Importing this module imports Great Expectations, which can take 15 seconds: do it late.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.checkpoint import UpdateDataDocsAction
from great_expectations.data_context import EphemeralDataContext
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.expectations.expectation import Expectation

from components.run.files import written_whole

_NAME = "images"
_WHOLE_NUMBERS = ("height", "width", "smallest_side")
_FRACTIONS = ("aspect", "pair_correlation")
_WHICH_IMAGE = ("split", "dataset", "clean")


@dataclass(frozen=True)
class Failure:
    """One row that fails an expectation.

    Attributes:
        split: its split.
        dataset: its dataset.
        file: path of the clean image, relative to the folder of fetched sources.
        found: the value that was not expected.
    """

    split: str
    dataset: str
    file: str
    found: str


@dataclass(frozen=True)
class Outcome:
    """The result of one expectation.

    Attributes:
        expected: the expectation in words.
        advice: what to do about a row that fails.
        type: Great Expectations' name for its kind.
        column: the column that it judges; several are joined by commas.
        arguments: its limits and its condition on rows.
        required: whether a failure stops the run; otherwise it is only reported.
        success: whether every row meets it.
        checked: number of rows that have a value and fall under its condition.
        failures: the rows that fail it, in the table's order.
    """

    expected: str
    advice: str
    type: str
    column: str
    arguments: Mapping[str, Any]
    required: bool
    success: bool
    checked: int
    failures: tuple[Failure, ...]


def judge(rows: Sequence[Mapping[str, Any]], expectations: Sequence[Expectation], docs: Path) -> list[Outcome]:
    """Check the table of `rows` against `expectations`, and write Data Docs to the folder `docs`.

    The same rows give the same outcomes. The pages contain the time and load styles from the internet.

    Raises:
        RuntimeError: Great Expectations could not compute an expectation.
    """
    with written_whole(docs) as folder:
        context = _context(folder)
        suite = context.suites.add(gx.ExpectationSuite(name=_NAME, expectations=list(expectations)))
        asset = context.data_sources.add_pandas(_NAME).add_dataframe_asset(_NAME)
        batch = asset.add_batch_definition_whole_dataframe(_NAME)
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=_NAME, data=batch, suite=suite))
        checkpoint = gx.Checkpoint(
            name=_NAME,
            validation_definitions=[definition],
            actions=[UpdateDataDocsAction(name=_NAME, site_names=[_NAME])],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": list(_WHICH_IMAGE)},
        )
        (result,) = checkpoint.run(batch_parameters={"dataframe": _frame(rows)}).run_results.values()
    return [_outcome(one.to_json_dict()) for one in result.results]


def _context(docs: Path) -> EphemeralDataContext:
    """A context that keeps nothing but the pages, shows no progress and reports to nobody."""
    site = {
        "class_name": "SiteBuilder",
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    config = DataContextConfig(
        data_docs_sites={_NAME: site},
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    return gx.get_context(project_config=config, mode="ephemeral")


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    return frame.astype(dict.fromkeys(_WHOLE_NUMBERS, "Int64") | dict.fromkeys(_FRACTIONS, "float64"))


def _outcome(judged: Mapping[str, Any]) -> Outcome:
    config, result = judged["expectation_config"], judged["result"]
    if judged["exception_info"].get("raised_exception", True):
        raise RuntimeError(f"{config['type']}: {judged['exception_info']}")
    arguments = dict(config["kwargs"])
    del arguments["batch_id"]
    columns = [arguments.pop("column")] if "column" in arguments else arguments.pop("column_list")
    return Outcome(
        expected=config["description"],
        advice=config["notes"],
        type=config["type"],
        column=", ".join(columns),
        arguments=arguments,
        required=config["severity"] == "critical",
        success=judged["success"],
        checked=result["element_count"] - result.get("missing_count", 0),
        failures=tuple(
            Failure(row["split"], row["dataset"], row["clean"], _words(row[columns[-1]]))
            for row in result["unexpected_index_list"] or ()
        ),
    )


def _words(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
