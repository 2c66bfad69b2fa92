"""What arrives in MLflow, by its own database: each run, number and student once, however often it is sent."""

import json
import uuid

import pytest

from components.telemetry.follow import AwayError, UnusableError, send_all
from components.telemetry.journal import SENT, Journal, Writer, journals_in

pytestmark = pytest.mark.slow  # mlflow takes long to import, and to make its database


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def experiment():
    return f"e-{uuid.uuid4().hex}"


@pytest.fixture
def make_sender(address, experiment, tmp_path):
    """Makes what a new process would make."""
    from components.telemetry.upload import MlflowSender

    return lambda: MlflowSender(address, experiment, (tmp_path / "artifacts").as_uri())


@pytest.fixture
def client(address):
    from mlflow.tracking import MlflowClient

    return MlflowClient(address, address)


@pytest.fixture
def runs(client, experiment):
    """The experiment's runs as they stand on the server: the pipelines', and the stages'."""

    def read():
        found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id], order_by=["start_time"])
        nested = [run for run in found if "mlflow.parentRunId" in run.data.tags]
        return [run for run in found if run not in nested], nested

    return read


class Stage:
    """Writes the journal of one stage."""

    def __init__(self, folder, stage="distill", parent="git:abc", injected="", time=1000):
        self.writer = Writer(folder / f"{stage}-{uuid.uuid4().hex[:6]}")
        self.time = time
        self.event(
            "begin",
            stage=stage,
            parent=parent,
            parent_name=f"run {parent}",
            injected=injected,
            tags={"dvc.stage": stage, "git.rev": "abc", "step": stage},
            params={"student.training.steps": "12", "odd [name]": "x"},
            id=self.writer.folder.name,
        )

    def event(self, kind, **values):
        self.time += 1
        self.writer.append({"event": kind, "time": self.time, **values})
        return self

    def trained(self, steps=range(1, 4)):
        for step in steps:
            self.event("metrics", step=step, values={"train/total": 1 / step, "train/odd [name]": 2.0})
        return self

    def ended(self, status="FINISHED"):
        self.event("end", status=status)
        self.writer.close()
        return self


class TestOneRun:
    def test_all_of_it_arrives(self, tmp_path, make_sender, client, runs):
        stage = Stage(tmp_path / "j").trained()
        stage.writer.add_file("samples/1.png", b"png")
        stage.event("file", name="samples/1.png").event("tags", values={"dvc.out.x": "0" * 32}).ended()
        send_all(tmp_path / "j", make_sender())
        (parent,), (run,) = runs()
        assert (run.info.run_name, run.info.status, run.info.start_time) == ("distill", "FINISHED", 1001)
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert (parent.info.run_name, parent.info.status, parent.data.tags["git.rev"]) == (
            "run git:abc",
            "FINISHED",
            "abc",
        )
        assert run.data.params == {"student.training.steps": "12", "odd _name_": "x"}
        assert run.data.tags["dvc.out.x"] == "0" * 32
        history = client.get_metric_history(run.info.run_id, "train/total")
        assert [(one.step, one.value) for one in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
        assert [one.path for one in client.list_artifacts(run.info.run_id, "samples")] == ["samples/1.png"]
        assert journals_in(tmp_path / "j") == []

    def test_sent_again_from_the_start_it_doubles_nothing(self, tmp_path, make_sender, client, runs):
        """As after a process that was killed between what it sent and its note of it."""
        Stage(tmp_path).trained().event("file", name="none.png").ended()
        (journal,) = journals_in(tmp_path)
        seen = []
        for _ in range(3):
            make_sender().send(journal)
            (journal.folder / SENT).unlink()
            (parent,), (run,) = runs()
            history = client.get_metric_history(run.info.run_id, "train/total")
            assert len(history) == 3
            seen.append((parent.info.run_id, run.info.run_id, run.data.metrics, run.data.params, run.data.tags))
        assert seen[0] == seen[1] == seen[2]

    def test_a_killed_one_goes_on_as_the_same(self, tmp_path, make_sender, client, runs):
        stage = Stage(tmp_path).trained()
        send_all(tmp_path, make_sender())
        assert runs()[1][0].info.status == "RUNNING"
        stage.writer.close()
        send_all(tmp_path, make_sender())
        assert runs()[1][0].info.status == "KILLED"
        stage.writer = Writer(stage.writer.folder)
        stage.event("again", tags={"git.rev": "def"}).trained(range(4, 6))
        send_all(tmp_path, make_sender())
        assert runs()[1][0].info.status == "RUNNING"
        stage.ended()
        send_all(tmp_path, make_sender())
        (_,), (run,) = runs()
        assert (run.info.status, run.data.tags["git.rev"]) == ("FINISHED", "def")
        assert [one.step for one in client.get_metric_history(run.info.run_id, "train/total")] == [1, 2, 3, 4, 5]

    def test_more_numbers_than_fit_into_one_request(self, tmp_path, make_sender, client, runs):
        stage = Stage(tmp_path)
        stage.trained(range(1, 1201)).ended()
        send_all(tmp_path, make_sender())
        history = client.get_metric_history(runs()[1][0].info.run_id, "train/total")
        assert [one.step for one in history] == [*range(1, 1201)]

    def test_what_the_server_refuses_does_not_keep_the_rest(self, tmp_path, make_sender, runs):
        stage = Stage(tmp_path).event("tags", values={"": "no name"}).event("tags", values={"good": "one"})
        stage.ended()
        send_all(tmp_path, make_sender())
        assert runs()[1][0].data.tags["good"] == "one"
        assert journals_in(tmp_path) == []


class TestPipeline:
    def test_stages_of_one_run_are_children_of_one_parent(self, tmp_path, make_sender, runs):
        for stage, parent in (("a", "kfp:1"), ("b", "kfp:1"), ("c", "kfp:2")):
            Stage(tmp_path, stage, parent).ended("FAILED" if stage == "b" else "FINISHED")
            send_all(tmp_path, make_sender())
        parents, children = runs()
        names = {run.info.run_id: run.info.run_name for run in parents}
        assert {run.info.run_name: names[run.data.tags["mlflow.parentRunId"]] for run in children} == {
            "a": "run kfp:1",
            "b": "run kfp:1",
            "c": "run kfp:2",
        }
        assert {run.info.run_name: run.info.status for run in parents} == {
            "run kfp:1": "FAILED",
            "run kfp:2": "FINISHED",
        }

    def test_an_injected_run_is_the_parent_and_its_owner_ends_it(self, tmp_path, make_sender, client, experiment, runs):
        owner = client.create_run(client.create_experiment(experiment), run_name="of somebody else")
        for stage in "ab":
            Stage(tmp_path, stage, injected=owner.info.run_id).ended()
        send_all(tmp_path, make_sender())
        (parent,), children = runs()
        assert (parent.info.run_id, parent.info.status) == (owner.info.run_id, "RUNNING")
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {owner.info.run_id}

    def test_an_injected_run_that_has_a_parent_is_the_stages_own(self, tmp_path, make_sender, client, experiment, runs):
        """As Kubeflow's plugin for MLflow makes them: a run for each task, below that of the pipeline."""
        group = client.create_experiment(experiment)
        parent = client.create_run(group).info.run_id
        own = client.create_run(group, tags={"mlflow.parentRunId": parent}).info.run_id
        for _ in range(2):  # the task, and its retry
            Stage(tmp_path, injected=own).trained().ended()
            send_all(tmp_path, make_sender())
        (one,), (child,) = runs()
        assert (one.info.run_id, child.info.run_id, child.data.metrics["train/total"]) == (parent, own, 1 / 3)

    def test_an_injected_run_that_the_server_does_not_know_is_left_aside(self, tmp_path, make_sender, runs):
        Stage(tmp_path, injected="0" * 32).ended()
        send_all(tmp_path, make_sender())
        assert [len(some) for some in runs()] == [1, 1]


class TestDeleted:
    """MLflow refuses all that is sent to what somebody deleted; the journal waits, or begins its run anew."""

    @pytest.mark.parametrize("named", ["name", "id"])
    def test_an_experiment_is_named_with_the_ways_out(
        self, named, tmp_path, make_sender, client, experiment, runs, monkeypatch
    ):
        identifier = client.create_experiment(experiment, (tmp_path / "artifacts").as_uri())
        client.delete_experiment(identifier)
        if named == "id":
            monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", identifier)
        Stage(tmp_path).trained().ended()
        with pytest.raises(AwayError) as refused:
            send_all(tmp_path, make_sender())
        variable = f"MLFLOW_EXPERIMENT_ID={identifier}" if named == "id" else f"MLFLOW_EXPERIMENT_NAME={experiment}"
        assert str(refused.value) == (
            f"has {variable} among its deleted experiments: restore it by `mlflow experiments restore "
            f"--experiment-id {identifier}`, or name another one by MLFLOW_EXPERIMENT_NAME"
        )
        assert isinstance(refused.value, UnusableError)
        client.restore_experiment(identifier)
        assert send_all(tmp_path, make_sender()) == 1
        assert runs()[1][0].data.metrics["train/total"] == 1 / 3

    @pytest.mark.parametrize("identifier", ["987654", "abc", "-1", "1.5", "a b"])
    def test_an_experiment_that_never_was_is_named(self, identifier, tmp_path, make_sender, monkeypatch):
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", identifier)
        Stage(tmp_path).ended()
        with pytest.raises(AwayError) as refused:
            send_all(tmp_path, make_sender())
        assert f"refuses MLFLOW_EXPERIMENT_ID={identifier} (" in str(refused.value)
        assert len(journals_in(tmp_path)) == 1

    def test_a_run_that_goes_on_is_begun_anew_and_nothing_of_it_is_lost(self, tmp_path, make_sender, client, runs):
        stage = Stage(tmp_path).trained()
        send_all(tmp_path, make_sender())
        client.delete_run(runs()[1][0].info.run_id)
        stage.trained(range(4, 6)).ended()
        send_all(tmp_path, make_sender())
        send_all(tmp_path, make_sender())
        nested = runs()[1]
        assert len(nested) == 1
        history = client.get_metric_history(nested[0].info.run_id, "train/total")
        assert [one.step for one in history] == [1, 2, 3, 4, 5]

    def test_an_injected_run_is_left_aside(self, tmp_path, make_sender, client, experiment, runs):
        run = client.create_run(client.create_experiment(experiment, (tmp_path / "a").as_uri()))
        client.delete_run(run.info.run_id)
        Stage(tmp_path, injected=run.info.run_id).ended()
        send_all(tmp_path, make_sender())
        assert [len(some) for some in runs()] == [1, 1]


class TestRegistry:
    def propose(self, folder, psnr, md5, dataset="Set5", scale=2, task="sr"):
        protocol = json.dumps({"name": task, "scale": scale})
        scores = {"psnr": psnr, "ssim": 0.9, "parameters": 31043}
        values = {"task": task, "protocol": protocol, "dataset": dataset, "scores": scores, "md5": md5}
        Stage(folder, "evaluate").event("model", **values, source=f"s3://b/files/md5/{md5[:2]}/{md5[2:]}").ended()

    def test_each_student_is_there_once_and_the_best_is_the_champion(self, tmp_path, make_sender, client):
        task = uuid.uuid4().hex
        champions = []
        for psnr, md5 in ((30.0, "aa1"), (31.5, "bb2"), (31.0, "cc3"), (31.5, "bb2"), (31.5, "dd4")):
            self.propose(tmp_path, psnr, md5, task=task)
            send_all(tmp_path, make_sender())
            champions.append(client.get_model_version_by_alias(f"restoration-{task}", "champion").tags["dvc.md5"])
        assert champions == ["aa1", "bb2", "bb2", "bb2", "bb2"]
        versions = client.search_model_versions(f"name = 'restoration-{task}'")
        assert sorted(one.tags["dvc.md5"] for one in versions) == ["aa1", "bb2", "cc3", "dd4"]
        best = client.get_model_version_by_alias(f"restoration-{task}", "champion")
        assert best.source == "s3://b/files/md5/bb/2"
        assert (best.tags["psnr"], best.tags["parameters"], best.tags["git.rev"]) == ("31.5", "31043", "abc")

    def test_students_that_were_measured_otherwise_are_no_rivals(self, tmp_path, make_sender, client):
        task = uuid.uuid4().hex
        for psnr, md5, changes in ((36.0, "x2", {}), (30.0, "x4", {"scale": 4}), (40.0, "other", {"dataset": "Set14"})):
            self.propose(tmp_path, psnr, md5, task=task, **changes)
            send_all(tmp_path, make_sender())
            assert client.get_model_version_by_alias(f"restoration-{task}", "champion").tags["dvc.md5"] == md5


def test_a_database_that_can_not_be_opened_is_away_and_its_password_is_not_told(tmp_path):
    from components.telemetry.upload import MlflowSender

    with pytest.raises(AwayError) as caught:
        MlflowSender("postgresql://me:pass-word@127.0.0.1:1/x", "e")._experiment_id()
    assert "pass-word" not in str(caught.value)


def test_a_journal_that_is_empty_yet_is_left_alone(tmp_path, make_sender):
    Writer(tmp_path / "new").close()
    make_sender().send(Journal(tmp_path / "new"))
    assert not (tmp_path / "new" / SENT).exists()
