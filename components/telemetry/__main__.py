"""Send what is waiting in the journals to the MLflow server.

Without MLFLOW_TRACKING_URI, that is the database in the project's folder. Sending twice duplicates nothing.
"""

import argparse
import importlib
import logging
import os
import sys
from pathlib import Path
from typing import cast

from components.run.errors import InputError
from components.run.step import faults_told
from components.telemetry.follow import (
    AwayError,
    Sender,
    UnusableError,
    follow_in_process,
    only_one,
    send_all,
    shown,
)
from components.telemetry.journal import Journal, journals_in
from components.telemetry.settings import Settings, read_settings
from components.telemetry.ui import serve

_SECONDS = 5.0  # for a sign of life
_SECONDS_OF_A_REQUEST = {True: "10", False: "60"}  # while a step runs, and for a user who waits
_SQLITE = "sqlite:///"


class LateSender:
    """A sender that first checks that the server answers, as mlflow takes seconds to import."""

    def __init__(self, settings: Settings, seconds: str) -> None:
        self.server, self._settings, self._seconds = settings.server, settings, seconds
        self._sender: Sender | None = None

    def send(self, journal: Journal) -> None:
        """Send a journal as `MlflowSender` does."""
        if self._sender is None:
            probe(self.server)
            self._sender = self._connected()
        self._sender.send(journal)

    def _connected(self) -> Sender:
        # Read when mlflow is imported; a user's own values take precedence.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", self._seconds)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        artifacts = None
        if self.server.startswith(_SQLITE):
            folder = Path(self.server.removeprefix(_SQLITE)).parent
            folder.mkdir(parents=True, exist_ok=True)
            artifacts = (folder / "artifacts").as_uri()
        upload = importlib.import_module("components.telemetry.upload")
        return cast("Sender", upload.MlflowSender(self.server, self._settings.experiment, artifacts))


def probe(server: str, seconds: float = _SECONDS) -> None:
    """Check that a server at an http address responds; other kinds are not checked.

    Raises:
        AwayError: no response came in time, or one that reports an error.
    """
    if not server.startswith(("http://", "https://")):
        return
    import requests  # noqa: PLC0415 -- --help does without it

    certificates = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"1", "true"}:
        certificates = False
    try:
        status = requests.get(f"{server.rstrip('/')}/health", timeout=seconds, verify=certificates).status_code
    except (requests.RequestException, ValueError) as error:
        raise AwayError(f"does not answer ({type(error).__name__})") from error
    if status >= 500:
        raise AwayError(f"answers with HTTP {status}")


def main() -> int:
    """Send once and report the result, or do the work of the process that steps start."""
    parser = argparse.ArgumentParser(prog="python -m components.telemetry", description=__doc__)
    parser.add_argument(
        "--follow", action="store_true", help="continue until nothing is being recorded (started by steps)"
    )
    parser.add_argument("--ui", action="store_true", help="afterwards show the page of the runs")
    flags = parser.parse_args()
    # What libraries log is the user's to read; nobody reads what the steps' process logs.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    with faults_told():
        return _run(flags)


def _run(flags: argparse.Namespace) -> int:
    settings = read_settings()
    if settings is None or not settings.server:
        raise InputError(f"{settings.why_none if settings else 'TRACKING=off'}: there is nowhere to send to.")
    sender = LateSender(settings, _SECONDS_OF_A_REQUEST[flags.follow])
    if flags.follow:
        logging.disable()  # nobody reads them, and libraries' logs may hold addresses with passwords
        follow_in_process(settings.journals, sender)
        return 0
    code = _once(settings, sender)
    return serve(settings) if flags.ui else code


def _once(settings: Settings, sender: Sender) -> int:
    where = shown(settings.server)
    with only_one(settings.journals) as mine:
        if not mine:
            sys.stdout.write(f"a step's background process is already sending to {where}.\n")
            return 0
        try:
            count = send_all(settings.journals, sender)
        except AwayError as error:
            waiting = len(journals_in(settings.journals))
            told = f"{where} {error}; {waiting} journals are waiting in {settings.journals}."
            if isinstance(error, UnusableError):
                raise InputError(told) from error
            sys.stderr.write(f"error: {told}\n")
            return 1
    sys.stdout.write(f"{count} journals sent to {where}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
