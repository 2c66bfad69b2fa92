import functools
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from components.backbones.weights import load_backbone
from components.distill import distill
from components.methods import METHODS
from components.run.errors import InputError
from components.training import checkpoint, session
from components.training.loop import train
from components.training.meter import DivergedError
from tests.small_project import SmallProject
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("own_accelerator")

ROOT = Path(__file__).parents[1]
OUTPUTS = {"student.safetensors", "history.csv", "validation.csv"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = SmallProject(tmp_path)
    project.training_images()
    project.teacher()
    project.encoder()
    project.ensemble()
    project.privileged()
    return project


def checkpoint_name(project):
    return "-".join(["distill", *(project.folder / "output").parts[-3:]])


def broken_off(project, monkeypatch, method, **paths):
    """Run a step with a checkpoint at every row of the history, and break it off in its eighth step."""
    with monkeypatch.context() as patched:
        patched.setattr(session, "train", functools.partial(train, checkpoint_seconds=0))
        patched.setattr(session, "TrainingPatches", tiny.Interrupted)
        with pytest.raises(KeyboardInterrupt):
            project.run(distill, method, **paths)


@pytest.mark.parametrize("method", METHODS)
class TestEveryMethod:
    def test_leaves_a_student_and_its_curves_and_no_checkpoint(self, method, project):
        before = project.left()
        project.run(distill, method)
        assert project.left() - before == {"params.yaml", "output", *(f"output/{name}" for name in OUTPUTS)}
        header = (project.folder / "output" / "history.csv").read_text().splitlines()[0]
        assert header.split(",")[:3] == ["step", "learning_rate", "total"]
        assert set(header.split(",")[3:]) == set(project.params["methods"][method]["weights"])

    def test_the_student_is_the_one_that_was_validated_last(self, method, project):
        project.run(distill, method)
        student = load_backbone(project.folder / "output" / "student.safetensors")
        last = (project.folder / "output" / "validation.csv").read_text().splitlines()[-1]
        measured = tiny.validation(project.folder / "lmdb")(student)
        assert last == ",".join(["12", *map(str, measured.values())])

    def test_starts_from_the_student_of_the_seed_or_where_its_paper_says(self, method, project):
        project.params["students"]["sr"]["training"] |= {"learning_rate": 1e-12, "schedule": {"name": "constant"}}
        project.run(distill, method)
        network = tiny.privileged().decoder if method == "pisr" else tiny.edsr(seed=5)
        start = network.state_dict()
        for name, value in load_file(project.folder / "output" / "student.safetensors").items():
            torch.testing.assert_close(value, start[name], rtol=0, atol=1e-7)

    def test_goes_on_to_the_same_bytes_where_it_was_broken_off(self, method, project, monkeypatch, capsys):
        project.run(distill, method, output=project.folder / "unbroken")
        broken_off(project, monkeypatch, method)
        checkpoints = project.folder / ".cache" / "checkpoints"
        assert [path.name.rpartition("-")[0] for path in checkpoints.iterdir()] == [checkpoint_name(project)]
        project.run(distill, method)
        assert f"distill {method}: going on from step 6 of 12" in capsys.readouterr().out
        assert tiny.files(project.folder / "output") == tiny.files(project.folder / "unbroken")
        assert list(checkpoints.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda project: project.params["methods"]["dckd"]["weights"].update(codes=0.002),
        lambda project: project.params["methods"]["dckd"]["history"].update(momentum=0.2),
        lambda project: project.params["students"]["sr"]["training"].update(learning_rate=0.002),
        lambda project: project.params["students"]["sr"]["training"].update(ema_decay=0.8),
    ],
)
def test_no_run_goes_on_from_another_ones_checkpoint(change, project, monkeypatch, capsys):
    broken_off(project, monkeypatch, "dckd")
    (left,) = (project.folder / ".cache" / "checkpoints").iterdir()
    change(project)
    project.run(distill, "dckd")
    assert "going on" not in capsys.readouterr().out
    assert left.exists()
    project.run(distill, "dckd", output=project.folder / "again")
    assert tiny.files(project.folder / "output") == tiny.files(project.folder / "again")


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A copy of the project's code, from which the hashes of a checkpoint's key are taken."""
    root = tmp_path / "source"
    shutil.copytree(ROOT / "components", root / "components", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(checkpoint, "ROOT", root)
    return root / "components"


@pytest.mark.parametrize(
    "file", ["reporting/wording.py", "telemetry/progress.py", "methods/dckd.py", "backbones/uformer.py", "tasks/new.py"]
)
def test_an_edit_of_code_that_the_training_does_not_run_leaves_its_checkpoint(file, code, project, monkeypatch, capsys):
    broken_off(project, monkeypatch, "logits")
    with (code / file).open("a") as edited:
        edited.write("# a comment\n")
    project.run(distill, "logits")
    assert "distill logits: going on from step 6 of 12" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["methods/logits.py", "backbones/edsr.py", "training/loop.py", "tasks/sr/__init__.py"])
def test_a_checkpoint_of_other_code_is_told_with_its_step_and_the_way_to_go_on(
    file, code, project, monkeypatch, capsys, caplog
):
    broken_off(project, monkeypatch, "logits")
    (left,) = (project.folder / ".cache" / "checkpoints").iterdir()
    with (code / file).open("a") as edited:
        edited.write("# a comment\n")
    with monkeypatch.context() as patched:
        patched.setattr(session, "TrainingPatches", tiny.Interrupted)
        with pytest.raises(KeyboardInterrupt):
            project.run(distill, "logits")
    told = next(record.getMessage() for record in caplog.records if "a checkpoint of this training" in record.msg)
    assert f"at step 6, not used because this has changed since: code components/{file}." in told
    before, after = told.partition("`mv ")[2].rstrip("`.").split(" ")
    Path(before).rename(after)
    assert not left.exists()
    project.run(distill, "logits")
    assert "distill logits: going on from step 6 of 12" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("schedule", "told"),
    [
        ({"name": "multi_step", "milestones": [4, 8], "factor": 0.1}, "distill logits: going on from step 6 of 15"),
        (
            {"name": "cosine", "minimum": 1e-6},
            "params recipe.steps (12 -> 15) (here every step depends on their number). To resume from it anyway, ",
        ),
    ],
)
def test_more_steps_go_on_where_the_schedule_allows_it_and_are_told_to_begin_anew_elsewhere(
    schedule, told, project, monkeypatch, capsys, caplog
):
    """Though the killed run kept its checkpoints in a folder of its own, as each run of a cluster does."""
    training = project.params["students"]["sr"]["training"]
    training["schedule"] = schedule
    broken_off(project, monkeypatch, "logits")
    training["steps"] = 15
    kept = project.folder / ".cache" / "checkpoints"
    if schedule["name"] == "cosine":
        kept.rename(project.folder / ".cache" / "another run")
    project.run(distill, "logits")
    assert told in capsys.readouterr().out + caplog.text


@pytest.mark.parametrize("name", ["teacher", "encoder"])
def test_another_teacher_or_encoder_is_another_training(name, project, monkeypatch, capsys):
    broken_off(project, monkeypatch, "dckd")
    if name == "teacher":
        project.network("teacher", {"name": "edsr", "channels": 8, "blocks": 2}, seed=9)
        project.check()
    else:
        project.encoder(seed=9)
    project.run(distill, "dckd")
    assert "going on" not in capsys.readouterr().out


class TestEnsemble:
    def test_one_without_the_teacher_that_was_checked_is_refused(self, project):
        project.network("teacher", {"name": "edsr", "channels": 8, "blocks": 2}, seed=9)
        project.check()
        with pytest.raises(InputError, match=r"ensemble: none of its teachers \(rcan, teacher\) has the"):
            project.run(distill, "mtkd")
        assert not (project.folder / "output").exists()

    def test_a_method_that_learns_from_one_says_that_it_has_none(self, project):
        arguments = project.arguments(distill, "mtkd") | {"ensemble": None}
        with pytest.raises(InputError, match=r"methods\.mtkd\.weights: its losses need --ensemble"):
            distill(**arguments)

    def test_another_one_is_another_training(self, project, monkeypatch, capsys):
        broken_off(project, monkeypatch, "mtkd")
        project.ensemble(seed=5)
        project.run(distill, "mtkd")
        assert "going on" not in capsys.readouterr().out


class TestPrivilegedTeacher:
    def test_a_method_that_begins_as_its_decoder_says_that_it_has_none(self, project):
        arguments = project.arguments(distill, "pisr") | {"privileged": None}
        with pytest.raises(InputError, match=r"methods\.pisr\.weights: its losses need --privileged"):
            distill(**arguments)

    def test_another_one_is_another_training(self, project, monkeypatch, capsys):
        broken_off(project, monkeypatch, "pisr")
        project.privileged(seed=7)
        project.run(distill, "pisr")
        assert "going on" not in capsys.readouterr().out

    def test_one_of_another_student_is_refused(self, project):
        project.params["students"]["sr"]["backbone"]["blocks"] = 2
        with pytest.raises(InputError, match=r"methods\.pisr\.start: .*is another network than the student"):
            project.run(distill, "pisr")
        assert not (project.folder / "output").exists()


class TestTeacher:
    def test_one_that_was_not_checked_is_refused(self, project):
        project.network("teacher", {"name": "edsr", "channels": 8, "blocks": 2}, seed=9)
        before = project.left()
        with pytest.raises(InputError, match=r"check is about other weights than .*teacher: run check_teacher again"):
            project.run(distill, "scratch")
        assert project.left() - before == {"params.yaml"}

    def test_its_labels_are_learnt_by_logits_and_not_by_scratch(self, project):
        def student(method, seed, output):
            project.network("teacher", {"name": "edsr", "channels": 8, "blocks": 2}, seed=seed)
            project.check()
            project.run(distill, method, output=project.folder / output)
            return (project.folder / output / "student.safetensors").read_bytes()

        assert student("scratch", 2, "one") == student("scratch", 9, "two")
        assert student("logits", 2, "three") != student("logits", 9, "four")


class TestWrongInput:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                lambda p: p["methods"]["dckd"].update(name="dcckd"),
                r"methods\.dckd.*'dcckd'.*'dckd'\? There are: .*dckd, .*log",
            ),
            (lambda p: p["methods"]["dckd"]["weights"].update(kode=1), r"weights.*'kode'.*codes, contrastive"),
            (lambda p: p["methods"]["dckd"].update(weights={}), r"methods\.dckd\.weights"),
            (lambda p: p["methods"]["dckd"].update(temperature=4), r"methods\.dckd.*'temperature'"),
            (lambda p: p["students"]["sr"]["backbone"].update(name="hat"), r"'hat'.*There are: .*edsr, .*rcan"),
            (lambda p: p["students"]["sr"]["training"].update(stpes=4), r"training.*'stpes'.*'steps'"),
            (lambda p: p["tasks"].update(sr={"name": "dehaze"}), r"tasks\.sr.*'dehaze'.*There are: .*sr"),
        ],
    )
    def test_a_wrong_param_is_refused_by_its_key(self, change, said, project):
        change(project.params)
        with pytest.raises(InputError, match=said):
            project.run(distill, "dckd")
        assert not (project.folder / "output").exists()

    def test_a_method_that_params_do_not_have_is_refused_with_those_there_are(self, project):
        with pytest.raises(InputError, match=r"methods: unknown name 'dkcd'.*There are: .*dckd, .*logits, .*scratch"):
            project.run(distill, "dkcd")

    def test_an_encoder_that_is_none(self, project):
        (project.folder / "encoder").write_bytes(b"not weights")
        with pytest.raises(InputError, match="not a network stored by this pipeline"):
            project.run(distill, "dckd")
        assert not (project.folder / "output").exists()

    def test_tap_weights_for_an_encoder_of_other_depth(self, project):
        project.params["methods"]["dckd"]["tap_weights"] = [1.0]
        with pytest.raises(InputError, match=r"tap_weights: 1 weights, but the encoder has 5 levels"):
            project.run(distill, "dckd")

    def test_a_training_that_diverges_names_the_term_and_leaves_nothing(self, project):
        project.params["students"]["sr"]["training"]["learning_rate"] = 1.0
        with pytest.raises(DivergedError, match=r"the loss reconstruction ends at [\d.e+]+, but a black image"):
            project.run(distill, "scratch")
        assert not (project.folder / "output").exists()
