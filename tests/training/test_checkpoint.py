import errno
import resource
import shutil
from pathlib import Path

import pytest
import torch

from components.training import checkpoint
from components.training.checkpoint import checkpoint_path, identity_of, load_checkpoint, save_checkpoint
from tests.training import tiny

ROOT = Path(__file__).parents[2]
STATE = {"weights": {"layer": torch.arange(3000.0)}, "history": [{"step": 1.0, "total": 0.1}], "step": 1}


LOOP = "components.training.loop"


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A copy of the project's code, from which hashes are taken."""
    monkeypatch.setattr(checkpoint, "ROOT", tmp_path)
    shutil.copytree(ROOT / "components", tmp_path / "components", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "components"


@pytest.fixture
def name(tmp_path, code):
    data = tmp_path / "data"
    data.write_bytes(b"images")

    def path(stage="distill-sr-dckd-3", recipe=None, files=(data,), modules=(LOOP,)):
        identity = identity_of({"recipe": recipe or tiny.recipe()}, list(files), modules)
        return checkpoint_path(tmp_path / "kept", stage, identity)

    return path


class TestName:
    def test_is_the_same_for_the_same_training(self, name, tmp_path):
        assert name() == name()
        assert name().parent == tmp_path / "kept"
        assert name().name.startswith("distill-sr-dckd-3-")

    def test_differs_with_the_params(self, name):
        assert name(recipe=tiny.recipe(seed=6)) != name()

    def test_differs_with_the_stage(self, name):
        assert name(stage="distill-sr-logits-3").name != name().name

    def test_differs_with_the_bytes_of_an_input(self, name, tmp_path):
        before = name()
        (tmp_path / "data").write_bytes(b"others")
        assert name() != before

    def test_differs_with_the_code_that_is_run_and_with_no_other(self, name, code):
        before = name()
        (code / "reporting" / "wording.py").write_text("two")
        (code / "new.py").write_text("three")
        assert name() == before
        (code / "training" / "loop.py").write_text("four")
        assert name() != before

    def test_differs_with_the_version_of_torch(self, name, monkeypatch):
        before = name()
        monkeypatch.setattr(torch, "__version__", "0.0")
        assert name() != before


class TestFile:
    def test_gives_back_what_was_kept(self, tmp_path):
        path = tmp_path / "folder" / "run.pt"
        save_checkpoint(path, STATE)
        kept = load_checkpoint(path)
        assert torch.equal(kept["weights"]["layer"], STATE["weights"]["layer"])
        assert {key: kept[key] for key in ("history", "step")} == {key: STATE[key] for key in ("history", "step")}
        assert list(path.parent.iterdir()) == [path]

    def test_is_none_where_there_is_none(self, tmp_path):
        assert load_checkpoint(tmp_path / "run.pt") is None

    def test_is_none_wherever_it_was_cut_off_and_the_message_names_it(self, tmp_path, caplog):
        path = tmp_path / "run.pt"
        save_checkpoint(path, STATE)
        whole = path.read_bytes()
        for length in range(0, len(whole), len(whole) // 50):
            caplog.clear()
            path.write_bytes(whole[:length])
            assert load_checkpoint(path) is None
            assert f"{path}: not a readable checkpoint" in caplog.text
            assert "training from the start" in caplog.text

    @pytest.mark.parametrize(
        "content", [b"hello", b"hello world" * 100, bytes(5000), b"PK\x03\x04" + bytes(500), b"{}"]
    )
    def test_is_none_where_it_is_something_else(self, content, tmp_path):
        (tmp_path / "run.pt").write_bytes(content)
        assert load_checkpoint(tmp_path / "run.pt") is None

    def test_stays_as_it_was_where_the_disk_is_full_and_the_error_says_so(self, tmp_path):
        path = tmp_path / "run.pt"
        save_checkpoint(path, STATE)
        before = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            with pytest.raises(OSError, match="too large") as raised:
                save_checkpoint(path, {**STATE, "step": 2})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert raised.value.errno == errno.EFBIG
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
