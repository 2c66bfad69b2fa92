"""How a server that is away is borne with: one policy for storage, Kubernetes and Kubeflow."""

import time
from collections.abc import Callable
from typing import TypeVar

from urllib3.util import Retry

RETRY = Retry(total=None, backoff_factor=0.5, backoff_max=30.0)
"""Waits of 0, 1, 2, 4, 8 and 16 seconds, then of 30."""
PASSING = {408, 429, 500, 502, 503, 504}
"""The HTTP answers after which the next try may do."""

Answer = TypeVar("Answer")


def patiently(
    act: Callable[[], Answer],
    seconds: float,
    passing: type[Exception],
    tell: Callable[[Exception, float], None] = lambda _fault, _wait: None,
) -> Answer:
    """Try until it is done, but not after `seconds`.

    Args:
        act: what to try.
        seconds: how long a fault may last.
        passing: the kind of fault after which the next try may do; every other one is raised at once.
        tell: called with a fault, and the seconds until the next try.

    Raises:
        Exception: the last fault.
    """
    end, retry = time.monotonic() + seconds, RETRY
    while True:
        try:
            return act()
        except passing as fault:
            retry = retry.increment(error=fault)
            wait = retry.get_backoff_time()
            if time.monotonic() + wait > end:
                raise
            tell(fault, wait)
        time.sleep(wait)
