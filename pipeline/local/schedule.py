"""Run tasks that depend on each other, several at a time."""

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait


def run_in_order(
    upstream: Mapping[str, frozenset[str]],
    attempt: Callable[[str], str | None],
    stop: Callable[[], None],
    parallel: int = 1,
) -> tuple[list[str], list[str]]:
    """Run every task after those that it depends on. After a failure no other is started; running ones finish.

    Args:
        upstream: `{task: tasks that it depends on}`.
        attempt: runs a task in a thread; returns what went wrong, or None.
        stop: makes running tasks end soon; called before an exception, such as Ctrl-C, is passed on.
        parallel: how many run at the same time.

    Returns:
        What went wrong, and the tasks that were not started.
    """
    waiting, done, faults = list(upstream), set[str](), list[str]()
    running: dict[Future[str | None], str] = {}
    with ThreadPoolExecutor(parallel) as pool:
        try:
            while running or (waiting and not faults):
                ready = [task for task in waiting if upstream[task] <= done and not faults]
                for task in ready[: parallel - len(running)]:
                    waiting.remove(task)
                    running[pool.submit(attempt, task)] = task
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task, fault = running.pop(future), future.result()
                    if fault is None:
                        done.add(task)
                    else:
                        faults.append(fault)
        except BaseException:
            stop()
            raise
    return faults, waiting
