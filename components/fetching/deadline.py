"""A deadline for whatever a server does: it is asked in a thread, and left when too little comes."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from components.fetching import servers
from components.fetching.servers import Answer, Ask, Interrupted
from components.images.datasets import shown

_Received = queue.Queue[Answer | bytes | Exception | None]


@contextmanager
def in_time(ask: Ask, url: str, offset: int, version: str) -> Iterator[Answer]:
    """Ask in a thread, so that whatever a server does, in its headers too, a deadline ends it.

    The thread of a server that was left ends with its next block, or with this process.

    Raises:
        Interrupted: no answer within `SILENCE_SECONDS`, or less than a piece in as long; and what `ask` raises.
    """
    received: _Received = queue.Queue(maxsize=64)
    left = threading.Event()

    def receive() -> None:
        try:
            with ask(url, offset, version) as answer:
                received.put(answer)
                for block in answer.blocks:
                    received.put(block)
                    if left.is_set():
                        return
            received.put(None)
        except Exception as error:  # noqa: BLE001 -- raised where it is received
            received.put(error)

    threading.Thread(target=receive, daemon=True, name=f"ask {shown(url)}").start()
    try:
        answer = _next(received, time.monotonic() + servers.SILENCE_SECONDS)
        yield replace(answer, blocks=_blocks(received))
    finally:
        left.set()
        with suppress(queue.Empty):  # the thread may be waiting for room
            while True:
                received.get_nowait()


def _next(received: _Received, deadline: float) -> Any:
    try:
        found = received.get(timeout=max(deadline - time.monotonic(), 0))
    except queue.Empty:
        raise Interrupted(f"less than {servers.PIECE} bytes came within {servers.SILENCE_SECONDS:g} seconds") from None
    if isinstance(found, Exception):
        raise found
    return found


def _blocks(received: _Received) -> Iterator[bytes]:
    count, deadline = 0, time.monotonic() + servers.SILENCE_SECONDS
    while block := _next(received, deadline):
        count += len(block)
        if count >= servers.PIECE:
            count, deadline = 0, time.monotonic() + servers.SILENCE_SECONDS
        yield block
