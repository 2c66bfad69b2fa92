"""Steps that are recorded: the same bytes as ever, whatever becomes of the recording."""

import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml
from PIL import Image

from components.distill import distill
from components.evaluate import evaluate
from components.run.errors import InputError
from components.run.step import run_step
from components.telemetry import follow, recorder
from components.telemetry.journal import journals_in
from components.telemetry.recorder import current, observed, tracked
from components.training.watch import Watch
from tests.planted import REPOSITORIES, TEXTS, is_in
from tests.small_project import SmallProject
from tests.telemetry import slow_server
from tests.training import tiny

ROOT = Path(__file__).parents[2]
DISTILL = "--task sr --student sr --method logits --seed 5 --lmdb lmdb --teacher teacher --check check --output output"
EVALUATE = (
    "--task sr --student teacher --check check --manifest manifest --raw raw --scores scores.json --details details "
    "--speed speed.json"
)

pytestmark = pytest.mark.usefixtures("own_accelerator")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project in which `distill` takes a second, as working directory; nothing is sent."""
    small = SmallProject(tmp_path)
    small.training_images()
    small.test_images()
    small.teacher()
    check = json.loads((tmp_path / "check").read_text()) | {"teacher": {}, "baseline": {}}
    (tmp_path / "check").write_text(json.dumps(check))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(small.params))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACKING", "journal")
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "TRACKING_DIR", "CHECKPOINT_DIR", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def outputs(folder):
    run_step(distill, DISTILL.split(), observe=observed)
    return tiny.files(folder / "output")


def recorded(folder):
    """Events of the one journal there is."""
    (journal,) = journals_in(folder / ".cache" / "tracking")
    return [event for event, _ in journal.events()]


def numbers(events):
    return [
        (name, event["step"], value)
        for event in events
        if event["event"] == "metrics"
        for name, value in event["values"].items()
    ]


@contextlib.contextmanager
def no_process_left():
    """End what steps started in this process."""
    before = len(follow._started)
    try:
        yield
    finally:
        for process in follow._started[before:]:
            process.terminate()
            process.wait(20)


def warnings(caplog):
    return [
        record.message for record in caplog.records if record.levelno >= logging.WARNING and "telemetry" in record.name
    ]


class TestWhatIsRecorded:
    def test_every_number_of_a_training_is_that_of_its_files(self, project):
        files = outputs(project)
        events = recorded(project)
        found = {(name, step): value for name, step, value in numbers(events)}
        for file, place in (("history.csv", "train"), ("validation.csv", "validation")):
            header, *rows = (line.split(",") for line in files[file].decode().split())
            for row in rows:
                for name, value in zip(header[1:], row[1:], strict=True):
                    assert found[f"{place}/{name}", int(row[0])] == float(value)
        assert {"reconstruction", "logits"} <= {name.removeprefix("train/") for name, _ in found}
        assert {"train/images_per_second", "memory/peak_megabytes", "system/process_memory_megabytes"} <= {
            name for name, _ in found
        }
        assert events[0]["params"]["method.weights.logits"] == "1.0"
        assert events[-1]["status"] == "FINISHED"

    def test_a_few_pictures_show_the_validation_image_restored_beside_the_clean_one(self, project):
        run_step(distill, DISTILL.split(), observe=observed)
        names = [event["name"] for event in recorded(project) if event["event"] == "file"]
        assert names == ["samples/step_0000006.png", "samples/step_0000012.png"]
        (journal,) = journals_in(project / ".cache" / "tracking")
        content = (journal.folder / "files" / names[-1]).read_bytes()
        assert len(content) < 100_000
        picture = Image.open(io.BytesIO(content))
        assert picture.size == (96, 48)
        assert (tiny.photograph(4) == picture.crop((48, 0, 96, 48))).all()

    def test_what_was_written_is_named_with_dvcs_hash_and_what_was_read_is_not(self, project):
        run_step(distill, DISTILL.split(), observe=observed)
        tags = {
            name: value
            for event in recorded(project)
            if event["event"] == "tags"
            for name, value in event["values"].items()
        }
        assert list(tags) == ["dvc.out.output"]
        assert tags["dvc.out.output"].endswith(".dir")

    def test_what_is_too_large_to_be_hashed_is_said_to_be(self, project, monkeypatch):
        monkeypatch.setattr(recorder, "_HASHED_BYTES", 10)
        monkeypatch.setattr(recorder, "_HASHED_BYTES_PER_SECOND", 0)
        run_step(distill, DISTILL.split(), observe=observed)
        (event,) = (event for event in recorded(project) if event["event"] == "tags")
        assert event["values"] == {"dvc.out.output": "large: see dvc.lock"}

    def test_an_evaluation_proposes_its_student_with_the_scores_of_the_first_set(self, project):
        run_step(evaluate, EVALUATE.split(), observe=observed)
        events = recorded(project)
        scores = json.loads((project / "scores.json").read_text())
        (model,) = (event for event in events if event["event"] == "model")
        assert (model["task"], model["dataset"]) == ("sr", "one")
        assert model["scores"]["psnr"] == scores["one"]["psnr"]
        assert model["source"].endswith(f"files/md5/{model['md5'][:2]}/{model['md5'][2:]}")
        assert ("test/two/ssim", 0, scores["two"]["ssim"]) in numbers(events)

    def test_of_several_processes_only_the_first_records(self, project, monkeypatch):
        monkeypatch.setenv("RANK", "1")
        with tracked("distill", [], {}):
            assert current() is recorder._NONE
        assert journals_in(project / ".cache" / "tracking") == []

    @pytest.mark.parametrize(
        ("error", "status"), [(InputError("x"), "FAILED"), (RuntimeError("x"), "FAILED"), (KeyboardInterrupt(), None)]
    )
    def test_how_a_step_ended(self, error, status, project):
        with pytest.raises(type(error)), tracked("distill", [], {}):
            raise error
        ends = [event["status"] for event in recorded(project) if event["event"] == "end"]
        assert ends == ([status] if status else [])
        assert current() is recorder._NONE

    def test_no_password_is_written_or_told(self, project, monkeypatch, caplog):
        monkeypatch.setenv("TRACKING", "on")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pass-of-uri@127.0.0.1:1")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pass-of-variable")
        monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: None)
        words = ["--url", "http://me:pass-of-word@host"]
        with tracked(
            "distill",
            words,
            {"sources": {"a": "https://x:pass-of-param@h", "b": "pass-of-variable", "c": REPOSITORIES}},
        ):
            current().metrics({"a": 1.0})
            current().event("tags", values={"x": "pass-of-variable"} | {text: text for text in TEXTS})
        follow.tell(project / ".cache" / "tracking", "away", "pass-of-variable")
        for path in (project / ".cache").rglob("*"):
            assert path.is_dir() or not ("pass-of" in path.read_text() or is_in(path.read_text()))
        assert "pass-of" not in caplog.text


class TestBrokenOff:
    def test_a_step_that_goes_on_continues_its_run_and_doubles_nothing(self, project, monkeypatch):
        row = Watch.row

        def stop(self, values):
            row(self, values)
            if values["step"] == 9:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Watch, "row", stop)
            with pytest.raises(SystemExit) as ended:
                run_step(distill, DISTILL.split(), observe=observed)
        assert ended.value.code == 130
        assert [event["event"] for event in recorded(project)][-1] != "end"
        run_step(distill, DISTILL.split(), observe=observed)
        events = recorded(project)
        kinds = [event["event"] for event in events]
        assert (kinds.count("begin"), kinds.count("again"), kinds[-1]) == (1, 1, "end")
        told = [(name, step) for name, step, _ in numbers(events)]
        assert len(set(told)) == len(told)
        assert [step for name, step in told if name == "train/total"] == [3, 6, 9, 12]

    def test_a_step_that_ended_and_one_with_other_params_begin_anew(self, project):
        folder = project / ".cache" / "tracking"
        for values in ({"limit": 1}, {"limit": 1}):
            with tracked("distill", [], values):
                pass
        for values in ({"limit": 2}, {"limit": 3}):
            with contextlib.suppress(KeyboardInterrupt), tracked("distill", [], values):
                raise KeyboardInterrupt
        assert len(journals_in(folder)) == 4

    def test_an_injected_run_is_not_that_of_another(self, project, monkeypatch):
        for run in ("a", "b", "a"):
            monkeypatch.setenv("MLFLOW_RUN_ID", run)
            with contextlib.suppress(KeyboardInterrupt), tracked("distill", [], {}):
                raise KeyboardInterrupt
        assert len(journals_in(project / ".cache" / "tracking")) == 2


class TestUnharmed:
    @pytest.fixture
    def expected(self, project, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setenv("TRACKING", "off")
            patch.setattr("components.training.session.Watch", lambda *_: Mock())
            found = outputs(project)
        assert not (project / ".cache" / "tracking").exists()
        return found

    def test_recording_changes_no_byte(self, project, expected):
        assert outputs(project) == expected
        assert len(recorded(project)) > 8

    @pytest.mark.parametrize("kind", ["hanging", "ill", "away"])
    def test_nor_does_a_server_that_is(self, kind, project, expected, monkeypatch, caplog):
        servers = {
            "hanging": slow_server.hanging,
            "ill": lambda: slow_server.answering(500),
            "away": lambda: contextlib.nullcontext((slow_server.away(), [])),
        }
        with servers[kind]() as (address, _), no_process_left():
            monkeypatch.setenv("TRACKING", "on")
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
            assert outputs(project) == expected
        assert recorded(project)[-1]["event"] == "end"
        assert warnings(caplog) == []

    def test_a_full_disk_is_one_warning(self, project, expected, monkeypatch, caplog):
        with tracked("distill", [], {}):
            pass
        (journal,) = journals_in(project / ".cache" / "tracking")
        place = journal.folder
        journal.remove()
        place.mkdir()
        (place / "journal.jsonl").symlink_to("/dev/full")
        monkeypatch.setattr("fcntl.flock", lambda *_: None)  # of one device there is one lock for all processes
        writer = recorder.Writer
        monkeypatch.setattr(recorder, "Writer", lambda _: writer(place))
        assert outputs(project) == expected
        (told,) = warnings(caplog)
        assert "No space left on device" in told
        assert "The step continues" in told

    def test_a_place_that_can_not_be_written_to_is_one_warning(self, project, expected, monkeypatch, caplog):
        monkeypatch.setenv("TRACKING_DIR", "/dev/null/tracking")
        assert outputs(project) == expected
        assert len(warnings(caplog)) == 1

    @pytest.mark.parametrize(
        "broken",
        [
            "components.telemetry.recorder.read_context",
            "components.telemetry.recorder.dvc_md5",
            "components.telemetry.recorder.farewell",
            "components.telemetry.system.Sampler.sample",
            "components.training.watch.network_restorer",
            "components.telemetry.journal.Writer.append",
            "components.telemetry.context.params_of",
        ],
    )
    def test_a_fault_in_the_recording_is_one_warning(self, broken, project, expected, monkeypatch, caplog):
        def fault(*_, **__):
            raise RuntimeError("a fault")

        monkeypatch.setattr(broken, fault)
        assert outputs(project) == expected
        (told,) = warnings(caplog)
        assert told.startswith("tracking: a fault")


@pytest.mark.slow
def test_a_step_ends_though_the_server_never_answers_and_never_imports_mlflow(project):
    """In a process of its own, whose end does not wait for the one that sends; it tells which that is."""
    lines = (
        "import sys",
        "from components.distill import distill",
        "from components.run.step import run_step",
        "from components.telemetry import follow",
        "from components.telemetry.recorder import observed",
        f"run_step(distill, {DISTILL.split()}, observe=observed)",
        "print(len(follow._started), follow._started[0].pid, 'mlflow' in sys.modules)",
    )
    with slow_server.hanging() as (address, _):
        environment = {"TRACKING": "on", "MLFLOW_TRACKING_URI": address, "PYTHONPATH": str(ROOT)}
        environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
        ended = subprocess.run(
            [sys.executable, "-c", "\n".join(lines)],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        count, process, imported = ended.stdout.split()
        os.kill(int(process), signal.SIGKILL)
    assert (count, imported) == ("1", "False")
    assert recorded(project)[-1]["event"] == "end"
