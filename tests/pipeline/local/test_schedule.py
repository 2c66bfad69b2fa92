"""Tasks in order, several at a time, and none that starts after a failure."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.local.schedule import run_in_order

DIAMOND = {"end": frozenset({"left", "right"}), "left": frozenset({"start"}), "right": frozenset({"start"})}
DIAMOND["start"] = frozenset()


@st.composite
def graphs(draw):
    """Any graph without a circle, in any order."""
    names = [f"t{index}" for index in range(draw(st.integers(1, 7)))]
    upstream = {
        name: frozenset(draw(st.sets(st.sampled_from(names[:index])))) if index else frozenset()
        for index, name in enumerate(names)
    }
    return {name: upstream[name] for name in draw(st.permutations(names))}


def never():
    raise AssertionError("nothing was interrupted")


@settings(deadline=None)
@given(graphs(), st.integers(1, 4))
def test_every_task_runs_once_and_after_those_that_it_depends_on(upstream, parallel) -> None:
    done = []
    running = threading.Semaphore(parallel)

    def attempt(task):
        assert running.acquire(blocking=False), "more at a time than allowed"
        assert upstream[task] <= set(done)
        running.release()
        done.append(task)

    assert run_in_order(upstream, attempt, never, parallel) == ([], [])
    assert sorted(done) == sorted(upstream)


@settings(deadline=None)
@given(graphs(), st.integers(1, 4), st.data())
def test_what_needs_a_task_that_failed_never_starts(upstream, parallel, data) -> None:
    bad = data.draw(st.sampled_from(sorted(upstream)))
    started = []

    def attempt(task):
        started.append(task)
        return "broken" if task == bad else None

    faults, left = run_in_order(upstream, attempt, never, parallel)
    assert faults == ["broken"]
    assert sorted(started + left) == sorted(upstream)
    assert not {task for task in started if bad in upstream[task]}


def test_nothing_starts_after_a_failure_even_where_nothing_needs_it() -> None:
    """`slow` still runs when `bad` fails, and `later` would be ready and have room before `slow` ends."""
    failed, started = threading.Event(), []

    def attempt(task):
        started.append(task)
        if task == "bad":
            failed.set()
            return "broken"
        assert failed.wait(20)
        threading.Event().wait(0.2)
        return None

    upstream = {name: frozenset() for name in ("bad", "slow", "later")}
    assert run_in_order(upstream, attempt, never, 2) == (["broken"], ["later"])
    assert sorted(started) == ["bad", "slow"]


def test_tasks_that_do_not_need_each_other_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=20)

    def attempt(task):
        if task in {"left", "right"}:
            meeting.wait()

    assert run_in_order(DIAMOND, attempt, never, 2) == ([], [])


def test_an_exception_stops_what_runs_before_it_leaves() -> None:
    stopped = threading.Event()

    def attempt(task):
        if task == "bad":
            raise KeyboardInterrupt
        assert stopped.wait(20)

    with pytest.raises(KeyboardInterrupt):
        run_in_order({"bad": frozenset(), "long": frozenset()}, attempt, stopped.set, 2)
    assert stopped.is_set()
