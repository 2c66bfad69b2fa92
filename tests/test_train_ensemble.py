import functools
import json
import math

import pytest
import torch
from safetensors.torch import load_file

from components.auxiliary.ensemble_weights import load_ensemble
from components.run.errors import InputError
from components.train_ensemble import train_ensemble
from components.training import meter, session
from components.training.loop import train
from tests.small_project import SmallProject
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("own_accelerator")

OUTPUTS = {"ensemble.safetensors", "history.csv", "validation.csv"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = SmallProject(tmp_path)
    project.training_images()
    project.teacher()
    project.member()
    project.params["ensembles"]["sr"]["tolerance"] = 100.0
    return project


def ensemble_of(project, output="output"):
    return load_ensemble(project.folder / output / "ensemble.safetensors", project.folder / "teacher")


def rcan_as(project, name):
    """The same further teacher by another name."""
    project.member(name)
    project.params["run"]["members"] = [name]


def test_leaves_an_ensemble_its_curves_and_its_scores_beside_its_teachers(project):
    before = project.left()
    project.run(train_ensemble)
    assert project.left() - before == {"params.yaml", "scores", "output", *(f"output/{name}" for name in OUTPUTS)}
    scores = json.loads((project.folder / "scores").read_text())
    measure = tiny.validation(project.folder / "lmdb")
    assert scores["ensemble"] == measure(ensemble_of(project))
    assert scores["teachers"] == {
        name: measure(one) for name, one in tiny.teacher_ensemble().eval().named_teachers().items()
    }
    header = (project.folder / "output" / "history.csv").read_text().splitlines()[0]
    assert header == "step,learning_rate,total,reconstruction"


def test_trains_the_aggregator_and_none_of_its_teachers(project):
    project.run(train_ensemble)
    state = ensemble_of(project).state_dict()
    for name in ("teacher", "rcan"):
        file = project.folder / "teacher" if name == "teacher" else project.folder / "members/rcan/teacher.safetensors"
        for key, value in load_file(file).items():
            assert torch.equal(state[f"teacher_ensemble.teachers.{name}.{key}"], value)
    torch.manual_seed(5)
    start = tiny.Aggregator(2, 2, **tiny.AGGREGATOR).state_dict()
    assert all(not torch.equal(state[f"aggregator.{key}"], value) for key, value in start.items())


def test_gives_the_same_bytes_again(project):
    first, second = project.folder / "first", project.folder / "second"
    project.run(train_ensemble, output=first)
    project.run(train_ensemble, output=second)
    assert tiny.files(first) == tiny.files(second)


def test_the_order_of_the_members_does_not_matter(project):
    project.member("swinir", seed=3)
    for output, members in {"one": ["rcan", "swinir"], "two": ["swinir", "rcan"]}.items():
        project.params["run"]["members"] = members
        project.run(train_ensemble, output=project.folder / output)
    assert tiny.files(project.folder / "one") == tiny.files(project.folder / "two")


def test_the_place_of_a_teacher_is_that_of_its_name(project):
    project.run(train_ensemble)
    rcan_as(project, "zrcan")
    project.run(train_ensemble, output=project.folder / "last")
    first, last = ensemble_of(project), ensemble_of(project, "last")
    assert list(first.teacher_ensemble.named_teachers()) == ["rcan", "teacher"]
    assert list(last.teacher_ensemble.named_teachers()) == ["teacher", "zrcan"]


def test_goes_on_to_the_same_bytes_where_it_was_broken_off(project, monkeypatch, capsys):
    project.run(train_ensemble, output=project.folder / "unbroken")
    with monkeypatch.context() as patched:
        patched.setattr(session, "train", functools.partial(train, checkpoint_seconds=0))
        patched.setattr(session, "TrainingPatches", tiny.Interrupted)
        with pytest.raises(KeyboardInterrupt):
            project.run(train_ensemble)
    assert not (project.folder / "output").exists()
    project.run(train_ensemble)
    assert "train ensemble: going on from step 6 of 12" in capsys.readouterr().out
    assert tiny.files(project.folder / "output") == tiny.files(project.folder / "unbroken")


def aggregator(params):
    return params["ensembles"]["sr"]["aggregator"]


class TestWrongInput:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda p: p["run"].update(members=[]), r"run\.members: name further teachers"),
            (lambda p: p["run"].update(members=["rcan", "rcan"]), r"run: members: rcan is listed twice"),
            (lambda p: p["run"].update(members=["teacher"]), r"run\.members: .*'teacher' is the task's own"),
            (lambda p: p["run"].update(members=["../rcan"]), r"run\.members\.0"),
            (
                lambda p: aggregator(p).update(chanels=4),
                r"ensembles\.sr\.aggregator.*'chanels'.*'channels'",
            ),
            (lambda p: aggregator(p).update(heads=3), r"heads: 3 can't share 8 channels"),
        ],
    )
    def test_a_wrong_param_is_refused_by_its_key(self, change, said, project):
        change(project.params)
        with pytest.raises(InputError, match=said):
            project.run(train_ensemble)
        assert not {"output", "scores"} & {path.name for path in project.folder.iterdir()}

    def test_a_teacher_that_was_not_checked_is_refused(self, project):
        project.network("teacher", {"name": "edsr", "channels": 8, "blocks": 2}, seed=9)
        with pytest.raises(InputError, match=r"check is about other weights than .*teacher: run check_teacher again"):
            project.run(train_ensemble)

    def test_a_member_of_another_scale_is_refused(self, project):
        project.member(scale=3)
        with pytest.raises(InputError, match=r"one scale; found {'rcan': 3, 'teacher': 2}"):
            project.run(train_ensemble)

    def test_one_that_is_worse_than_a_teacher_alone_is_refused_with_both_numbers(self, project, monkeypatch):
        monkeypatch.setattr(meter, "WORST", math.inf)  # such a training is refused before
        project.params["ensembles"]["sr"]["tolerance"] = 0.0
        project.params["ensembles"]["sr"]["training"] |= {"learning_rate": 1.0}
        with pytest.raises(InputError, match=r"the ensemble reaches [\d.-]+ dB .* '(rcan|teacher)' alone [\d.-]+ dB"):
            project.run(train_ensemble)
        assert not {"output", "scores"} & {path.name for path in project.folder.iterdir()}
