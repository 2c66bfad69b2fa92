"""Where a run is tracked, from the environment: MLflow's own variables, and three of ours."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from components.telemetry.addresses import address_fault

SWITCH = "TRACKING"
"""`off`: nothing is recorded; `journal`: runs are recorded but not sent; `on` or nothing: both."""

_MODES = ("", "on", "off", "journal")
_SERVERS = re.compile(r"(?:sqlite|postgresql|mysql|mssql)(?:\+\w+)?://.+|(?:databricks|uc)\b.*")

_QUEUED = (".dvc", "tmp", "exps")


@dataclass(frozen=True)
class Settings:
    """Where things go.

    Attributes:
        journals: folder of the journals.
        server: address of the MLflow server or database, with its password if it has one; '' = nothing is sent.
        experiment: name of MLflow's group of runs.
        why_none: why nothing is sent, for the user.
    """

    journals: Path
    server: str
    experiment: str = "restoration-distillation"
    why_none: str = ""


def read_settings(environment: Mapping[str, str] | None = None, folder: Path | None = None) -> Settings | None:
    """Settings of this process; None if tracking is off.

    Journals are in `$TRACKING_DIR` if set, otherwise beside the checkpoints that a cluster's tasks share
    (`$CHECKPOINT_DIR`), otherwise in `.cache/tracking`. Without `MLFLOW_TRACKING_URI`, runs go to a database in the
    project's folder, if the full mlflow is installed. Where a variable holds a senseless value, runs are recorded but
    not sent.
    """
    environment = os.environ if environment is None else environment
    mode = environment.get(SWITCH, "")
    if mode == "off":
        return None
    project = _project((folder or Path.cwd()).absolute())
    shared = environment.get("CHECKPOINT_DIR")
    beside = Path(shared, "tracking") if shared else project / ".cache" / "tracking"
    journals = project / environment.get("TRACKING_DIR", beside)
    experiment = environment.get("MLFLOW_EXPERIMENT_NAME") or Settings.experiment
    server = environment.get("MLFLOW_TRACKING_URI", "")
    why = ""
    if fault := _fault(mode, server):
        server, why = "", fault
    elif mode == "journal":
        server, why = "", f"{SWITCH}=journal"
    elif not server and _has_database():
        server = f"sqlite:///{project / '.mlflow' / 'mlflow.db'}"
    elif not server:
        why = "MLFLOW_TRACKING_URI names no server, and mlflow's own database is not installed here"
    return Settings(journals, server, experiment, why)


def _fault(mode: str, server: str) -> str | None:
    """What is wrong with the variables: nothing is sent then, but what is recorded stays."""
    if mode not in _MODES:
        return f"{SWITCH}: {mode!r}: expected on, off or journal"
    if address_fault("MLFLOW_TRACKING_URI", server) and not _SERVERS.fullmatch(server):
        return (
            f"MLFLOW_TRACKING_URI: {server!r} is no address of a server or database: write http://HOST:PORT, "
            "https://HOST or sqlite:///FILE"
        )
    return None


def _project(folder: Path) -> Path:
    """The project's folder, even where DVC runs a queued experiment in a temporary copy."""
    parts = folder.parts
    for place in range(len(parts) - len(_QUEUED)):
        if parts[place : place + len(_QUEUED)] == _QUEUED:
            return Path(*parts[:place])
    return folder


def _has_database() -> bool:
    try:
        metadata.distribution("mlflow")  # importing it takes seconds
    except metadata.PackageNotFoundError:
        return False
    return True
