import pytest

from pipeline import patience
from pipeline.patience import RETRY, patiently


def failing(faults):
    """A call that raises these faults, one each time, and then gives an answer."""
    left = list(faults)

    def act():
        if left:
            raise left.pop(0)
        return "answer"

    return act


@pytest.fixture
def waits(monkeypatch):
    """Waits, which the clock jumps over."""
    now, found = [0.0], []

    def sleep(seconds):
        found.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(patience.time, "sleep", sleep)
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])
    return found


def test_a_fault_that_passes_is_waited_out_ever_longer(waits):
    told = []
    assert patiently(
        failing([TimeoutError(str(n)) for n in range(8)]), 200, OSError, lambda *one: told.append(one)
    ) == ("answer")
    assert waits == [0, 1, 2, 4, 8, 16, 30, 30]
    assert [(str(fault), wait) for fault, wait in told] == [(str(n), wait) for n, wait in enumerate(waits)]


@pytest.mark.parametrize(("seconds", "tries"), [(0, 2), (1, 3), (6.9, 4), (7, 5)])
def test_the_last_fault_is_raised_once_the_time_is_over(waits, seconds, tries):
    with pytest.raises(TimeoutError, match=str(tries - 1)):
        patiently(failing([TimeoutError(str(n)) for n in range(99)]), seconds, OSError)
    assert len(waits) == tries - 1


def test_another_fault_is_raised_at_once(waits):
    with pytest.raises(ValueError, match="no"):
        patiently(failing([ValueError("no")]), 60, OSError)
    assert waits == []


def test_a_policy_is_not_used_up():
    assert patiently(failing([OSError()]), 60, OSError) == "answer"
    assert RETRY.history == ()
