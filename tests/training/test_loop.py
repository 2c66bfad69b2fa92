import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from components.methods import METHODS
from components.methods.logits import Logits
from components.methods.method import Method
from components.training import loop
from components.training.checkpoint import load_checkpoint
from components.training.loop import forget
from components.training.meter import DivergedError
from tests.training import killed, tiny

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("own_accelerator")


@pytest.fixture(scope="module")
def lmdb(tmp_path_factory):
    return tiny.write_store(tmp_path_factory.mktemp("images") / "lmdb")


class Watched(Method):
    """Another method, and what it gave and was given at every step."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.losses, self.networks, self.averages = [], [], []

    def forward(self, network, batch):
        losses = self.inner(network, batch)
        self.losses.append({name: loss.item() for name, loss in losses.items()})
        return losses

    def follow(self, step, network, average):
        self.inner.follow(step, network, average)
        assert step == len(self.networks) + 1
        self.networks.append([value.detach().clone() for value in network.parameters()])
        self.averages.append([value.detach().clone() for value in average.parameters()])


def watched_run(picked, lmdb, checkpoint, values):
    seen = []

    def watch(method):
        seen.append(Watched(method))
        return seen[0]

    return tiny.distilled(picked, lmdb, checkpoint, values, wrap=watch), seen[0]


class TestReproducibility:
    @pytest.mark.parametrize("name", METHODS)
    def test_one_seed_gives_one_set_of_bytes(self, name, lmdb, tmp_path):
        picked = tiny.refreshing(name)
        first, second, other = (
            tiny.outcome(
                tmp_path / str(run), tiny.distilled(picked, lmdb, tmp_path / f"{run}.pt", tiny.recipe(seed=seed))
            )
            for run, seed in enumerate((5, 5, 6))
        )
        assert set(first) == {"student.safetensors", "history.csv", "validation.csv"}
        assert first == second
        assert all(first[file] != other[file] for file in first)

    @pytest.mark.parametrize("name", METHODS)
    def test_the_history_holds_the_terms_and_no_timing(self, name, lmdb, tmp_path):
        picked = tiny.refreshing(name)
        written = tiny.outcome(tmp_path / "out", tiny.distilled(picked, lmdb, tmp_path / "run.pt"))
        header, *rows = written["history.csv"].decode().splitlines()
        assert set(header.split(",")) == {"step", "learning_rate", "total", *METHODS[name].terms}
        assert [row.split(",")[0] for row in rows] == ["3", "6", "9", "12"]
        header, *rows = written["validation.csv"].decode().splitlines()
        assert header == "step,psnr,ssim"
        assert [row.split(",")[0] for row in rows] == ["6", "12"]


class TestResume:
    @pytest.mark.parametrize(("name", "network"), [*((name, "plain") for name in METHODS), ("dckd", "dropout")])
    def test_a_killed_run_ends_with_the_bytes_of_an_unbroken_one(self, name, network, lmdb, tmp_path, capsys):
        checkpoint = tmp_path / "run.pt"
        child = [sys.executable, "-m", "tests.training.killed", name, network, lmdb, checkpoint]
        ended = subprocess.run(child, cwd=ROOT, timeout=120, capture_output=True, check=False)
        assert ended.returncode == -9, ended.stderr.decode()
        assert load_checkpoint(checkpoint)["step"] == 6 < killed.KILLED
        checkpoint.with_name(f".{checkpoint.name}.partial").write_bytes(b"killed while it wrote the next one")

        picked, kind = tiny.refreshing(name), tiny.NETWORKS[network]
        resumed = tiny.outcome(tmp_path / "resumed", tiny.distilled(picked, lmdb, checkpoint, kind=kind))
        assert "going on from step 6 of 12" in capsys.readouterr().out
        unbroken = tiny.outcome(tmp_path / "unbroken", tiny.distilled(picked, lmdb, tmp_path / "other.pt", kind=kind))
        assert resumed == unbroken

    @pytest.mark.parametrize(
        "schedule",
        [
            {"name": "constant"},
            {"name": "multi_step", "milestones": [4, 8], "factor": 0.1},
            {"name": "cosine", "minimum": 1e-6, "flat": 4},
            {"name": "cosine", "minimum": 1e-6, "flat": 8},
            {"name": "cosine", "minimum": 1e-6, "flat": 2, "warmup_steps": 3},
            {"name": "cosine", "minimum": 1e-6, "warmup_steps": 9},
            {"name": "cosine_restarts", "periods": [4, 8], "minima": [1e-4, 0], "weights": [1, 0.5]},
        ],
    )
    @pytest.mark.parametrize("optimiser", ["adam", "adamw"])
    def test_every_schedule_and_optimiser_goes_on(self, schedule, optimiser, lmdb, tmp_path):
        picked = tiny.choice("scratch")
        optimiser = {"name": optimiser, "betas": [0.9, 0.99], "weight_decay": 0.1}
        values = tiny.recipe(schedule=schedule, optimiser=optimiser)
        checkpoint = tmp_path / "run.pt"
        with pytest.raises(KeyboardInterrupt):
            tiny.distilled(picked, lmdb, checkpoint, values, patch_kind=tiny.Interrupted)
        resumed = tiny.outcome(tmp_path / "resumed", tiny.distilled(picked, lmdb, checkpoint, values))
        unbroken = tiny.outcome(tmp_path / "unbroken", tiny.distilled(picked, lmdb, tmp_path / "other.pt", values))
        assert resumed == unbroken

    @pytest.mark.parametrize("name", METHODS)
    def test_growing_patches_mixup_and_clipped_gradients_go_on(self, name, lmdb, tmp_path):
        """Of every method: none keeps something of the first batch's size."""
        picked, values, checkpoint = tiny.refreshing(name), tiny.recipe(**tiny.RESTORER), tmp_path / "run.pt"
        with pytest.raises(KeyboardInterrupt):
            tiny.distilled(picked, lmdb, checkpoint, values, patch_kind=tiny.Interrupted)
        assert load_checkpoint(checkpoint)["step"] == 6
        resumed = tiny.outcome(tmp_path / "resumed", tiny.distilled(picked, lmdb, checkpoint, values))
        unbroken = tiny.outcome(tmp_path / "unbroken", tiny.distilled(picked, lmdb, tmp_path / "other.pt", values))
        assert resumed == unbroken

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("step", [1, 3, 8, 12])
    def test_a_stopped_run_goes_on_from_the_step_that_it_was_stopped_in(self, step, number, lmdb, tmp_path, capsys):
        """Between two rows of the history as well, and though no checkpoint was due."""
        picked, checkpoint = tiny.choice("logits"), tmp_path / "run.pt"

        class Stopped(Logits):
            def follow(self, now, network, average):
                if now == step:
                    signal.raise_signal(number)

        received = []
        former = signal.signal(number, lambda *_: received.append(number))
        with pytest.raises(KeyboardInterrupt):
            tiny.distilled(picked, lmdb, checkpoint, seconds=3600, wrap=lambda method: Stopped(method.setting))
        signal.signal(number, former)
        assert received == [number], "it is delivered once the state is safe"
        assert (load_checkpoint(checkpoint) or {}).get("step") == step
        resumed = tiny.outcome(tmp_path / "resumed", tiny.distilled(picked, lmdb, checkpoint))
        assert f"going on from step {step} of 12" in capsys.readouterr().out
        unbroken = tiny.outcome(tmp_path / "unbroken", tiny.distilled(picked, lmdb, tmp_path / "other.pt"))
        assert resumed == unbroken

    def test_a_signal_that_is_ignored_stops_nothing(self, lmdb, tmp_path):
        """As Ctrl-C is by what a script starts in the background."""

        class Asked(Logits):
            def follow(self, now, network, average):
                signal.raise_signal(signal.SIGINT)

        former = signal.signal(signal.SIGINT, signal.SIG_IGN)
        trained = tiny.distilled(
            tiny.choice("logits"), lmdb, tmp_path / "run.pt", wrap=lambda method: Asked(method.setting)
        )
        signal.signal(signal.SIGINT, former)
        assert trained.history[-1]["step"] == 12

    def test_a_second_ctrl_c_stops_at_once(self, lmdb, tmp_path):
        class Stopped(Logits):
            def follow(self, now, network, average):
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
                raise AssertionError("it went on")

        with pytest.raises(KeyboardInterrupt):
            tiny.distilled(
                tiny.choice("logits"), lmdb, tmp_path / "run.pt", wrap=lambda method: Stopped(method.setting)
            )
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    @pytest.mark.parametrize(
        "schedule",
        [
            {"name": "constant"},
            {"name": "multi_step", "milestones": [4, 8, 16], "factor": 0.1},
            {"name": "cosine_restarts", "periods": [4, 30], "minima": [1e-4, 0], "weights": [1, 0.5]},
        ],
    )
    def test_more_steps_go_on_from_fewer_where_the_schedule_allows_it(self, schedule, lmdb, tmp_path):
        picked, checkpoint = tiny.choice("scratch"), tmp_path / "run.pt"
        fewer, more = (tiny.recipe(schedule=schedule, steps=steps) for steps in (12, 18))
        with pytest.raises(KeyboardInterrupt):
            tiny.distilled(picked, lmdb, checkpoint, fewer, patch_kind=tiny.Interrupted)
        resumed = tiny.outcome(tmp_path / "resumed", tiny.distilled(picked, lmdb, checkpoint, more))
        unbroken = tiny.outcome(tmp_path / "unbroken", tiny.distilled(picked, lmdb, tmp_path / "other.pt", more))
        assert resumed == unbroken

    def test_fewer_steps_than_a_checkpoint_has_begin_anew(self, lmdb, tmp_path, caplog):
        picked, checkpoint = tiny.choice("scratch"), tmp_path / "run.pt"
        with pytest.raises(KeyboardInterrupt):
            tiny.distilled(picked, lmdb, checkpoint, patch_kind=tiny.Interrupted)
        fewer = tiny.recipe(steps=5)
        short = tiny.outcome(tmp_path / "short", tiny.distilled(picked, lmdb, checkpoint, fewer))
        assert f"{checkpoint}: at step 6, and the training has 5; training from the start." in caplog.text
        assert short == tiny.outcome(tmp_path / "fresh", tiny.distilled(picked, lmdb, tmp_path / "other.pt", fewer))

    def test_a_broken_checkpoint_is_reported_and_the_training_begins_anew(self, lmdb, tmp_path, caplog):
        picked, checkpoint = tiny.choice("scratch"), tmp_path / "run.pt"
        expected = tiny.outcome(tmp_path / "first", tiny.distilled(picked, lmdb, checkpoint))
        whole = checkpoint.read_bytes()
        checkpoint.write_bytes(whole[: len(whole) // 2])
        again = tiny.outcome(tmp_path / "again", tiny.distilled(picked, lmdb, checkpoint))
        assert f"{checkpoint}: not a readable checkpoint" in caplog.text
        assert again == expected
        assert checkpoint.read_bytes() == whole

    def test_checkpoints_are_kept_as_often_as_asked(self, lmdb, tmp_path, monkeypatch):
        """By a clock that advances a second a step."""
        clock, kept = [0.0], []

        class Ticking(Logits):
            def follow(self, step, network, average):
                clock[0] += 1

        monkeypatch.setattr(loop, "monotonic", lambda: clock[0])
        monkeypatch.setattr(loop, "save_checkpoint", lambda _, state: kept.append(state["step"]))
        picked, values = tiny.choice("logits"), tiny.recipe(log_every=1)
        tiny.distilled(
            picked, lmdb, tmp_path / "run.pt", values, seconds=5, wrap=lambda method: Ticking(method.setting)
        )
        assert kept == [5, 10]

    def test_none_is_kept_of_a_run_that_is_soon_over(self, lmdb, tmp_path):
        checkpoint = tmp_path / "run.pt"
        tiny.distilled(tiny.choice("scratch"), lmdb, checkpoint, seconds=3600)
        assert not checkpoint.exists()

    def test_forgetting_removes_the_checkpoint_and_may_be_repeated(self, tmp_path):
        checkpoint = tmp_path / "run.pt"
        checkpoint.write_bytes(b"")
        forget(checkpoint)
        assert not checkpoint.exists()
        forget(checkpoint)


class TestDivergence:
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    @pytest.mark.parametrize("term", ["reconstruction", "logits"])
    @pytest.mark.parametrize("step", [4, 5, 6, 12])
    def test_names_the_term_and_its_step_and_keeps_no_broken_checkpoint(self, term, step, value, lmdb, tmp_path):
        """Wherever it lies between two rows of the history, though every term is broken one step later."""

        class Broken(Logits):
            def forward(self, network, batch):
                losses = super().forward(network, batch)
                if batch.step == step:
                    losses[term] = losses[term] * value
                return losses

        picked, checkpoint = tiny.choice("logits"), tmp_path / "run.pt"
        with pytest.raises(DivergedError, match=rf"^the loss is not finite: {term}, at step {step}\."):
            tiny.distilled(picked, lmdb, checkpoint, wrap=lambda method: Broken(method.setting))
        kept = load_checkpoint(checkpoint)
        assert kept["step"] < step
        tensors = [*kept["trainee"].values(), *kept["average"].values()]
        assert all(torch.isfinite(tensor).all() for tensor in tensors)

    def test_a_broken_network_breaks_all_terms_at_once(self, lmdb, tmp_path):
        class Broken(Logits):
            def follow(self, step, network, average):
                if step == 7:
                    with torch.no_grad():
                        network.head[0].bias.fill_(math.nan)

        with pytest.raises(DivergedError, match="not finite: reconstruction, logits, at step 8"):
            tiny.distilled(tiny.choice("logits"), lmdb, tmp_path / "run.pt", wrap=lambda method: Broken(method.setting))

    def test_one_that_ends_finite_without_sense_has_no_result(self, lmdb, tmp_path):
        class Senseless(Logits):
            def follow(self, step, network, average):
                with torch.no_grad():
                    network.head[0].bias.fill_(1e6)

        with pytest.raises(DivergedError, match="the loss reconstruction ends at"):
            tiny.distilled(
                tiny.choice("logits"), lmdb, tmp_path / "run.pt", wrap=lambda method: Senseless(method.setting)
            )


class TestBatches:
    def test_patches_grow_while_batches_shrink(self, lmdb, tmp_path):
        shapes = {}

        class Seen(Logits):
            def forward(self, network, batch):
                shapes[batch.step] = (len(batch.clean), batch.degraded.shape[-1], batch.clean.shape[-1])
                return super().forward(network, batch)

        growing = tiny.recipe(progressive_learning=tiny.RESTORER["progressive_learning"])
        picked = tiny.choice("logits")
        tiny.distilled(picked, lmdb, tmp_path / "run.pt", growing, wrap=lambda method: Seen(method.setting))
        expected = [(4, 8, 16)] * 4 + [(6, 10, 20)] * 5 + [(2, 12, 24)] * 3
        assert shapes == dict(enumerate(expected, start=1))

    @pytest.mark.parametrize(("probability", "changed"), [(1.0, True), (1e-9, False)])
    def test_samples_are_mixed_where_the_recipe_says_so(self, probability, changed, lmdb, tmp_path):
        def first_losses(**changes):
            values = tiny.recipe(steps=3, **changes)
            return watched_run(tiny.choice("scratch"), lmdb, tmp_path / "run.pt", values)[1].losses

        mixed = first_losses(mixup={"beta": 1.2, "probability": probability})
        assert (mixed != first_losses()) == changed

    def test_the_recipe_says_which_distance_the_reconstruction_is(self, lmdb, tmp_path):
        """The session hands it over to the method: see `test_train_teacher` and `test_distill`."""
        values = tiny.recipe(steps=1)
        plain = watched_run(tiny.choice("scratch"), lmdb, tmp_path / "run.pt", values)[1].losses
        psnr = watched_run(
            tiny.choice("scratch"), lmdb, tmp_path / "run.pt", tiny.recipe(steps=1, reconstruction="psnr")
        )[1].losses
        assert plain[0]["reconstruction"] > 0 > psnr[0]["reconstruction"]


class TestClipping:
    def steps(self, lmdb, path, **changes):
        """The norm of the gradient that each step of the optimiser is given."""
        values = tiny.recipe(steps=4, **changes)
        norms = []

        def keep(optimiser, *_args, **_kwargs):
            parameters = optimiser.param_groups[0]["params"]
            norms.append(math.sqrt(sum(float(parameter.grad.square().sum()) for parameter in parameters)))

        hook = register_optimizer_step_pre_hook(keep)
        try:
            tiny.distilled(tiny.choice("logits"), lmdb, path, values)
        finally:
            hook.remove()
        return norms

    def test_a_long_gradient_is_cut_to_the_norm_and_a_short_one_left(self, lmdb, tmp_path):
        free = self.steps(lmdb, tmp_path / "free.pt")
        assert min(free) > 0.01
        assert self.steps(lmdb, tmp_path / "cut.pt", grad_clip_norm=0.01) == pytest.approx([0.01] * 4, rel=1e-3)
        assert self.steps(lmdb, tmp_path / "left.pt", grad_clip_norm=1e6) == free


class TestAverage:
    def test_follows_the_recursion_and_is_what_is_kept(self, lmdb, tmp_path):
        trained, seen = watched_run(tiny.choice("scratch"), lmdb, tmp_path / "run.pt", tiny.recipe(ema_decay=0.7))
        expected = [value.double() for value in seen.networks[0]]
        for networks, averages in zip(seen.networks, seen.averages, strict=True):
            if networks is not seen.networks[0]:
                expected = [0.7 * old + 0.3 * new.double() for old, new in zip(expected, networks, strict=True)]
            for ours, other in zip(averages, expected, strict=True):
                torch.testing.assert_close(ours.double(), other, rtol=1e-6, atol=1e-7)
        for kept, average, last in zip(trained.network.parameters(), seen.averages[-1], seen.networks[-1], strict=True):
            assert torch.equal(kept, average)
            assert not torch.equal(kept, last)
        assert not trained.network.training

    def test_is_what_is_validated(self, lmdb, tmp_path):
        trained = tiny.distilled(tiny.choice("scratch"), lmdb, tmp_path / "run.pt", tiny.recipe(learning_rate=0.01))
        measured = tiny.validation(lmdb)(trained.network)
        assert trained.validation[-1] == {"step": 12, **measured}
        assert trained.validation[0] != trained.validation[-1]


class TestHistory:
    @pytest.mark.parametrize("name", METHODS)
    def test_rows_are_means_of_the_steps_since_the_last_and_the_total_their_weighted_sum(self, name, lmdb, tmp_path):
        picked = tiny.refreshing(name)
        weights = {term: 0.25 * (place + 1) for place, term in enumerate(picked.weights)}
        picked = picked.model_copy(update={"weights": weights})
        trained, seen = watched_run(picked, lmdb, tmp_path / "run.pt", tiny.recipe(steps=8))
        assert [row["step"] for row in trained.history] == [3, 6, 8]
        for row, steps in zip(trained.history, (seen.losses[:3], seen.losses[3:6], seen.losses[6:]), strict=True):
            means = {term: math.fsum(step[term] for step in steps) / len(steps) for term in weights}
            for term, mean in means.items():
                assert row[term] == pytest.approx(mean, rel=1e-6)
            assert row["total"] == pytest.approx(sum(weights[term] * means[term] for term in weights), rel=1e-6)

    def test_the_weights_scale_what_the_network_learns_from(self, lmdb, tmp_path):
        def last(weights, name):
            picked = tiny.choice("logits").model_copy(update={"weights": weights})
            return tiny.outcome(tmp_path / name, tiny.distilled(picked, lmdb, tmp_path / f"{name}.pt"))

        one = last({"reconstruction": 1.0, "logits": 0.0}, "one")
        assert one["student.safetensors"] == last({"reconstruction": 1.0}, "alone")["student.safetensors"]
        assert one["student.safetensors"] != last({"reconstruction": 1.0, "logits": 1.0}, "both")["student.safetensors"]

    def test_the_learning_rate_is_that_of_the_step(self, lmdb, tmp_path):
        values = tiny.recipe(learning_rate=0.01, schedule={"name": "multi_step", "milestones": [3, 7], "factor": 0.1})
        trained = tiny.distilled(tiny.choice("scratch"), lmdb, tmp_path / "run.pt", values)
        # A milestone is a number of steps taken: the third step is the last of the first rate.
        assert [row["learning_rate"] for row in trained.history] == pytest.approx([0.01, 0.001, 0.0001, 0.0001])

    def test_validation_needs_no_row_of_the_history(self, lmdb, tmp_path):
        values = tiny.recipe(log_every=5, validate_every=4)
        trained = tiny.distilled(tiny.choice("scratch"), lmdb, tmp_path / "run.pt", values)
        assert [row["step"] for row in trained.history] == [5, 10, 12]
        assert [row["step"] for row in trained.validation] == [4, 8, 12]


@pytest.mark.parametrize("name", METHODS)
def test_bf16_stays_near_to_float32(name, lmdb, tmp_path):
    picked = tiny.refreshing(name)
    exact = tiny.distilled(picked, lmdb, tmp_path / "float32.pt")
    tiny.forget_accelerator()
    rough = tiny.distilled(picked, lmdb, tmp_path / "bf16.pt", tiny.recipe(precision="bf16"))
    assert {value.dtype for value in rough.network.parameters()} == {torch.float32}
    assert rough.history != exact.history
    for one, other in zip(exact.history, rough.history, strict=True):
        # 8 bits a number; the contrast is a ratio of differences of such numbers.
        ratios = {term for term in one if term == "contrastive"}
        assert {term: other[term] for term in ratios} == pytest.approx({term: one[term] for term in ratios}, rel=0.2)
        same = one.keys() - ratios
        assert {term: other[term] for term in same} == pytest.approx({term: one[term] for term in same}, rel=0.03)
