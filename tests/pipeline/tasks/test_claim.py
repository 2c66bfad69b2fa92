"""A run that several tasks want: its owner, those that wait, and an owner that is gone."""

import time

import pytest
from filelock import SoftFileLease

from pipeline.tasks import claim
from pipeline.tasks.claim import claimed

KEY = "abc"


@pytest.fixture
def shared(tmp_path, monkeypatch):
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path / "shared"))
    monkeypatch.setattr(claim, "SECONDS", 0.6)
    (tmp_path / "shared" / KEY).mkdir(parents=True)
    return tmp_path / "shared"


def elsewhere(shared):
    """What an owner on another machine has written."""
    lease = SoftFileLease(shared / f"{KEY}.owner", lease_duration=claim.SECONDS)
    with lease:
        lines = (shared / f"{KEY}.owner").read_text().splitlines()
    return "".join(f"{'host=elsewhere' if line.startswith('host=') else line}\n" for line in lines)


def test_a_run_of_its_own_waits_for_nobody_and_leaves_nothing(shared):
    with claimed(KEY) as waited:
        assert not waited
    assert list(shared.iterdir()) == []


def test_a_run_that_fails_leaves_its_checkpoints_and_frees_the_claim(shared):
    with pytest.raises(ZeroDivisionError), claimed(KEY):
        raise ZeroDivisionError
    assert list(shared.iterdir()) == [shared / KEY]


def test_an_owner_that_died_on_another_machine_does_not_block_for_ever(shared, capsys):
    (shared / f"{KEY}.owner").write_text(elsewhere(shared))
    with claimed(KEY) as waited:
        assert waited
    assert "another task runs the same" in capsys.readouterr().out


def test_who_lost_the_claim_leaves_the_checkpoints_to_the_new_owner(shared):
    """As a machine that stood still for longer than an owner may be silent."""
    other = elsewhere(shared)
    with claimed(KEY):
        (shared / "new").write_text(other)
        (shared / "new").rename(shared / f"{KEY}.owner")
        time.sleep(1)
    assert (shared / KEY).is_dir()


@pytest.mark.parametrize("key", [KEY, None])
def test_without_a_shared_place_or_a_key_nothing_is_claimed(key, tmp_path, monkeypatch):
    monkeypatch.setenv("CHECKPOINT_DIR", str(tmp_path) if key is None else "")
    with claimed(key) as waited:
        assert not waited
    assert list(tmp_path.iterdir()) == []
