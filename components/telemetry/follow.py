"""A separate process sends what steps record, while they run and a little longer; no step waits for it.

It is started by the first step, serves those that start while it runs, and ends by itself: at once if another one is
running, `LINGER` seconds after the last step if all was sent, `BUDGET` seconds after it in any case.
"""

import contextlib
import fcntl
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from components.run.files import read_json, write_json
from components.run.secrets import without_secrets
from components.telemetry.journal import Journal, journals_in
from components.telemetry.settings import Settings

POLL = 2.0
LINGER = 15.0
BUDGET = 60.0
LONGEST_PAUSE = 30.0
FAREWELL = 5.0
PATIENCE = 0.5
KEPT_DAYS = 30
COMMAND = "python -m components.telemetry"

_LOCK = "follow.lock"
_STATUS = "status.json"
_ROOT = Path(__file__).parents[2]
_IN_A_POD = "KUBERNETES_SERVICE_HOST"

_LOG = logging.getLogger(__name__)

Clock = Callable[[], float]
_started: list["subprocess.Popen[bytes]"] = []


class AwayError(Exception):
    """The server accepts nothing at the moment; the message continues after its address."""


class UnusableError(AwayError):
    """The server accepts nothing until its user has changed something; the message continues after its address."""


class Sender(Protocol):
    """Sends a journal to a server."""

    server: str

    def send(self, journal: Journal) -> None:
        """Send what has not arrived yet."""


def follow_later(settings: Settings) -> None:
    """Start the sending process, unless nothing is to be sent or it is already running."""
    if not settings.server or _followed(settings.journals):
        return
    environment = {name: value for name, value in os.environ.items() if name not in {"MLFLOW_RUN_ID", "RANK"}}
    environment |= {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), environment.get("PYTHONPATH", "")])),
        "TRACKING_DIR": str(settings.journals),
        "MLFLOW_TRACKING_URI": settings.server,
        "MLFLOW_EXPERIMENT_NAME": settings.experiment,
    }
    nowhere = subprocess.DEVNULL
    _started.append(
        subprocess.Popen(
            [sys.executable, "-m", "components.telemetry", "--follow"],
            cwd="/",
            env=environment,
            stdin=nowhere,
            stdout=nowhere,  # DVC and pods wait until nobody holds a step's output
            stderr=nowhere,
            start_new_session=True,
        )
    )


def _followed(folder: Path) -> bool:
    with only_one(folder) as mine:
        return not mine


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[bool]:
    """Yield whether this is the only process that sends a folder's journals; it stays so within the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def farewell(
    settings: Settings,
    journal: Journal,
    environment: Mapping[str, str] = os.environ,
    clock: Clock = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """What a step does at its end: only start the sending process if none is running.

    A pod ends with its step, and so does that process: in a pod, a step waits until its journal is sent, for at most
    `FAREWELL` seconds if the server is known to answer, otherwise `PATIENCE`.

    Returns:
        What to tell the user, or ''.
    """
    if not settings.server:
        return ""
    follow_later(settings)
    if environment.get(_IN_A_POD):
        began = clock()
        while not _arrived(settings, journal) and clock() - began < _patience(settings.journals):
            sleep(0.1)
    state, why = _status(settings.journals)
    if state != "away" or _arrived(settings, journal):
        return ""
    return f"{shown(settings.server)} {why}; the journal is kept in {settings.journals}, `{COMMAND}` sends it."


def _patience(folder: Path) -> float:
    return FAREWELL if _status(folder)[0] == "sending" else PATIENCE


def _arrived(settings: Settings, journal: Journal) -> bool:
    try:
        return journal.sent(shown(settings.server)).offset >= journal.size
    except FileNotFoundError:  # removed, because all of it was sent
        return True


def shown(server: str) -> str:
    """A server's address without user and password."""
    return str(without_secrets(server))


def _status(folder: Path) -> tuple[str, str]:
    try:
        found = read_json(folder / _STATUS)
        return str(found["state"]), str(found["why"])
    except (OSError, ValueError, LookupError, TypeError):
        return "", ""


def tell(folder: Path, state: str, why: str = "") -> None:
    """Record the state: `starting`, `sending` or `away`."""
    if _status(folder) != (state, why):
        with contextlib.suppress(OSError):
            write_json(folder / _STATUS, {"state": state, "why": without_secrets(why)})


def send_all(folder: Path, sender: Sender, now: Clock = time.time) -> int:
    """Send the unsent part of every journal, once, and remove those that are finished.

    Returns:
        How many were sent.

    Raises:
        AwayError: the server did not accept all of it.
    """
    count = 0
    for journal in journals_in(folder):
        with contextlib.suppress(FileNotFoundError):
            sent = journal.sent(shown(sender.server))
            alive = journal.alive  # asked before reading: a dead journal no longer grows
            if sent.offset < journal.size or (not alive and sent.status in {"", "RUNNING"}):
                try:
                    sender.send(journal)
                except (LookupError, TypeError, ValueError) as error:  # not a journal of this version
                    _LOG.warning("%s: can't be read: %r", journal.folder, error)
                    continue
                count += 1
            if not alive and (journal.ended or now() - (journal.folder).stat().st_mtime > KEPT_DAYS * 86400):
                journal.remove()
    return count


def follow(
    folder: Path, sender: Sender, clock: Clock = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Send whatever is added to the folder's journals, until their writers are gone."""
    last, pause = clock(), POLL
    while True:
        if any_alive(folder):
            last = clock()
        try:
            if send_all(folder, sender):
                last = clock()
            tell(folder, "sending")
            patience, pause = LINGER, POLL
        except AwayError as error:
            tell(folder, "away", str(error))
            patience, pause = BUDGET, min(2 * pause, LONGEST_PAUSE)
        if clock() - last >= patience:
            return
        sleep(pause)


def any_alive(folder: Path) -> bool:
    """Whether a step is being recorded."""
    found = False
    for journal in journals_in(folder):
        with contextlib.suppress(FileNotFoundError):
            found = found or journal.alive
    return found


def end_in_time(folder: Path, clock: Clock = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
    """End this process, whatever it is waiting for, `BUDGET` seconds after the last writer."""
    last = clock()
    while clock() - last < BUDGET:
        sleep(1.0)
        if any_alive(folder):
            last = clock()
    os._exit(0)


def follow_in_process(folder: Path, sender: Sender) -> None:
    """What the separate process does."""
    os.nice(19)  # next to training it gets a hundredth of a processor, otherwise all it wants
    threading.Thread(target=end_in_time, args=(folder,), daemon=True).start()
    while True:
        with only_one(folder) as mine:
            if not mine:
                return
            tell(folder, "starting")
            follow(folder, sender)
        if not any_alive(folder):  # a step that started while this was about to end relies on it
            return
