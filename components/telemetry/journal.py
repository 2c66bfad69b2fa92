"""The journal of one run: one line of JSON per event, in a folder with the run's small files."""

import errno
import fcntl
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.run.files import read_json, write_json

EVENTS = "journal.jsonl"
SENT = "sent.json"
FILES = "files"
_TRIES = 5

Event = dict[str, Any]


class Writer:
    """Appends events. A lock on the file, which ends with the process, tells others that the writer is alive.

    What was written survives a killed process; a line that was cut off by a full disk is dropped when the journal is
    resumed.
    """

    def __init__(self, folder: Path) -> None:
        """Open the folder's journal, a new one or that of an interrupted run.

        Raises:
            BlockingIOError: another process is writing it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file = os.open(folder / EVENTS, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._lock = threading.Lock()
        for tried in range(_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if tried == _TRIES - 1:
                    os.close(self._file)
                    raise
                time.sleep(0.01)  # somebody is testing whether it is locked
        size = os.fstat(self._file).st_size
        whole = os.pread(self._file, size, 0).rfind(b"\n") + 1
        if whole < size:
            os.ftruncate(self._file, whole)

    def append(self, event: Event) -> None:
        """Write one event immediately.

        Raises:
            OSError: it could not be written completely.
        """
        line = f"{json.dumps(event, ensure_ascii=False)}\n".encode()
        with self._lock:
            if os.write(self._file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder / EVENTS))

    def add_file(self, name: str, content: bytes) -> None:
        """Store a file of the run under its folder."""
        path = self.folder / FILES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._file)


@dataclass
class Sent:
    """How much of a journal was sent.

    Attributes:
        server: its address, without password.
        run: the server's id of the run.
        offset: bytes of the journal that arrived.
        status: the last status of the run that the server was told.
    """

    server: str
    run: str = ""
    offset: int = 0
    status: str = ""


@dataclass(frozen=True)
class Journal:
    """A journal as its reader sees it."""

    folder: Path

    def events(self, offset: int = 0) -> Iterator[tuple[Event, int]]:
        """Complete events from `offset` on, each with the offset after it; unreadable lines are skipped."""
        with (self.folder / EVENTS).open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if isinstance(event, dict) and "event" in event:
                    yield event, offset

    @property
    def size(self) -> int:
        """Bytes of the journal."""
        return (self.folder / EVENTS).stat().st_size

    @property
    def alive(self) -> bool:
        """Whether a process is writing it."""
        with (self.folder / EVENTS).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @property
    def ended(self) -> bool:
        """Whether the run ended, successfully or not; a killed one has no end."""
        return any(event["event"] == "end" for event, _ in self.events())

    def sent(self, server: str) -> Sent:
        """How much of it was sent to a server."""
        try:
            found = Sent(**read_json(self.folder / SENT))
        except (OSError, ValueError, TypeError):
            return Sent(server)
        return found if found.server == server else Sent(server)

    def note(self, sent: Sent) -> None:
        """Store how much of it was sent."""
        write_json(self.folder / SENT, asdict(sent))

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def journals_in(folder: Path) -> list[Journal]:
    """All journals, the oldest first."""
    found = []
    for path in folder.glob(f"*/{EVENTS}"):
        try:
            found.append((path.stat().st_ctime, path.parent))
        except FileNotFoundError:  # sent and removed meanwhile
            continue
    return [Journal(path) for _, path in sorted(found)]
