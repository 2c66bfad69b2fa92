"""Schedules and optimisers against their formulas and the official code.

`schedules_oracle.npz` holds the learning rate of every step that these gave, periods and steps of the recipes divided
by a thousand: `restormer` and `restarts`, `CosineAnnealingRestartCyclicLR` of swz30/Restormer, commit df766d55;
`multi_step`, `MultiStepRestartLR` of XPixelGroup/BasicSR, commit 8d56e3a0; `warm_up`, that repository's
`update_learning_rate` with `warmup_iter: 12` over a constant rate; `uformer`, `GradualWarmupScheduler` of
ZhendongWang6/Uformer, commit 65fc970a, over `CosineAnnealingLR`, which had its first rate as in torch 1.9.
"""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from components.run.errors import InputError
from components.run.params import typed
from components.training.optimisation import make_optimiser, make_schedule
from components.training.recipe import Training
from tests.training import tiny

ORACLE = np.load(Path(__file__).with_name("schedules_oracle.npz"))

# Name in the oracle, learning rate, schedule.
OFFICIAL = [
    ("restormer", 3e-4, {"name": "cosine", "minimum": 1e-6, "flat": 92}),
    (
        "restormer",
        3e-4,
        {"name": "cosine_restarts", "periods": [92, 208], "minima": [3e-4, 1e-6], "weights": [1, 1]},
    ),
    (
        "restarts",
        2e-3,
        {"name": "cosine_restarts", "periods": [20, 35, 45], "minima": [1e-4, 5e-5, 1e-6], "weights": [1, 0.5, 0.25]},
    ),
    ("multi_step", 2e-4, {"name": "multi_step", "milestones": [50, 80, 90, 95], "factor": 0.5}),
    ("warm_up", 2e-4, {"name": "constant", "warmup_steps": 12}),
    ("uformer", 2e-4, {"name": "cosine", "minimum": 1e-6, "warmup_steps": 5}),
]
RESTARTS = {"name": "cosine_restarts", "periods": [4, 8], "minima": [1e-4, 0.0], "weights": [1, 0.5]}


def rates(recipe):
    """The learning rate of every step, and what remains after the last."""
    parameter = nn.Parameter(torch.zeros(1))
    optimiser = make_optimiser([parameter], recipe)
    schedule = make_schedule(optimiser, recipe)
    found = []
    for _ in range(recipe.steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return found, optimiser.param_groups[0]["lr"]


def half_cosine(high, low, done, steps):
    return low + (high - low) * (1 + math.cos(math.pi * done / steps)) / 2


def scheduled(steps, learning_rate, **schedule):
    return tiny.recipe(steps=steps, learning_rate=learning_rate, schedule=schedule)


class TestSchedules:
    def test_constant(self):
        found, left = rates(scheduled(50, 1e-4, name="constant"))
        assert found == [1e-4] * 50
        assert left == 1e-4

    def test_multi_step_falls_at_each_number_of_steps_taken(self):
        """DCKD, section 4.1: 1e-4, x0.1 every 100k of 250k steps; a thousandth of it here."""
        found, _ = rates(scheduled(250, 1e-4, name="multi_step", milestones=[100, 200], factor=0.1))
        assert found == pytest.approx([1e-4] * 100 + [1e-5] * 100 + [1e-6] * 50, rel=1e-12)

    def test_a_milestone_at_the_end_is_never_reached(self):
        """As in the released configuration of DCKD, whose rate is constant by it."""
        found, _ = rates(scheduled(250, 1e-4, name="multi_step", milestones=[250], factor=0.5))
        assert found == [1e-4] * 250

    def test_cosine_of_nafnet(self):
        found, left = rates(scheduled(200, 1e-3, name="cosine", minimum=1e-7))
        assert found == pytest.approx([half_cosine(1e-3, 1e-7, done, 200) for done in range(200)], rel=1e-9)
        assert found[0] == 1e-3
        assert found[100] == pytest.approx((1e-3 + 1e-7) / 2, rel=1e-9)
        assert left == pytest.approx(1e-7, rel=1e-6)

    def test_cosine_of_restormer_is_flat_before_it_falls(self):
        """3e-4 for 92k steps, then over 208k to 1e-6; a thousandth of it here."""
        found, left = rates(scheduled(300, 3e-4, name="cosine", minimum=1e-6, flat=92))
        assert found[:93] == pytest.approx([3e-4] * 93, rel=1e-12)
        assert found[92:] == pytest.approx([half_cosine(3e-4, 1e-6, done, 208) for done in range(208)], rel=1e-9)
        assert left == pytest.approx(1e-6, rel=1e-6)

    @pytest.mark.parametrize(("name", "learning_rate", "schedule"), OFFICIAL)
    def test_every_step_has_the_rate_of_the_official_code(self, name, learning_rate, schedule):
        expected = ORACLE[name]
        found, _ = rates(scheduled(len(expected), learning_rate, **schedule))
        np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_warm_up_comes_before_whatever_the_schedule_is(self):
        rising = [1e-3 * step / 4 for step in (1, 2, 3, 4)]
        found, _ = rates(scheduled(12, 1e-3, name="multi_step", milestones=[6, 9], factor=0.1, warmup_steps=4))
        assert found == pytest.approx([*rising, 1e-3, 1e-3, *[1e-4] * 3, *[1e-5] * 3], rel=1e-9)
        found, left = rates(scheduled(12, 1e-3, name="cosine", minimum=0, flat=3, warmup_steps=4))
        falling = [half_cosine(1e-3, 0, done, 5) for done in range(5)]
        assert found == pytest.approx([*rising, *[1e-3] * 3, *falling], rel=1e-9)
        assert left == pytest.approx(0, abs=1e-15)
        found, _ = rates(scheduled(16, 1e-3, **RESTARTS, warmup_steps=4))
        assert found[:4] == pytest.approx(rising, rel=1e-9)
        plain, _ = rates(scheduled(12, 1e-3, **RESTARTS))
        assert found[4:] == pytest.approx(plain, rel=1e-9)

    @pytest.mark.parametrize(
        "schedule",
        [
            {"name": "constant"},
            {"name": "multi_step", "milestones": [3], "factor": 0.1},
            {"name": "cosine", "minimum": 0.0, "flat": 3},
            {"name": "cosine", "minimum": 0.0, "flat": 3, "warmup_steps": 1},
            RESTARTS,
        ],
    )
    def test_torch_has_nothing_to_complain_of(self, schedule):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rates(tiny.recipe(schedule=schedule))


def optimiser_of(name, betas=(0.9, 0.99), weight_decay=0.0):
    return {"optimiser": {"name": name, "betas": list(betas), "weight_decay": weight_decay}}


class TestOptimisers:
    def test_only_what_requires_a_gradient_is_trained(self):
        free, fixed = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1), requires_grad=False)
        (group,) = make_optimiser([fixed, free], tiny.recipe()).param_groups
        assert group["params"] == [free]

    @pytest.mark.parametrize("name", ["adam", "adamw"])
    def test_first_steps_are_those_of_the_papers(self, name):
        """Kingma and Ba 2015, algorithm 1, eps 1e-8; Loshchilov and Hutter 2019, algorithm 2, decay times the rate."""
        rate, (beta1, beta2), decay = 0.01, (0.8, 0.95), 0.1
        recipe = tiny.recipe(learning_rate=rate, **optimiser_of(name, (beta1, beta2), decay))
        parameter = nn.Parameter(torch.tensor([0.5, -2.0], dtype=torch.float64))
        optimiser = make_optimiser([parameter], recipe)
        expected, first, second = [0.5, -2.0], [0.0, 0.0], [0.0, 0.0]
        for step, gradients in enumerate([(0.3, -1.0), (-0.2, 4.0), (0.0, 0.5)], start=1):
            parameter.grad = torch.tensor(gradients, dtype=torch.float64)
            optimiser.step()
            for place, gradient in enumerate(gradients):
                decayed = gradient + decay * expected[place] if name == "adam" else gradient
                first[place] = beta1 * first[place] + (1 - beta1) * decayed
                second[place] = beta2 * second[place] + (1 - beta2) * decayed**2
                ratio = first[place] / (1 - beta1**step) / (math.sqrt(second[place] / (1 - beta2**step)) + 1e-8)
                expected[place] -= rate * ratio + (rate * decay * expected[place] if name == "adamw" else 0)
            assert parameter.tolist() == pytest.approx(expected, rel=1e-9)

    def test_weight_decay_is_off_where_it_is_not_given(self):
        parameter = nn.Parameter(torch.ones(1))
        optimiser = make_optimiser([parameter], tiny.recipe())
        parameter.grad = torch.zeros(1)
        optimiser.step()
        assert parameter.item() == 1


class TestRecipes:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                {"schedule": {"name": "cosine", "minimum": 0, "flat": 12}},
                "schedule.flat (12) must be less than steps (12)",
            ),
            (
                {"schedule": {"name": "cosine", "minimum": 0.01}},
                "schedule.minimum (0.01) is above learning_rate (0.001)",
            ),
            ({"schedule": {"name": "linear"}}, "'constant', 'multi_step', 'cosine'"),
            (
                {"schedule": {"name": "constant", "warmup_steps": 12}},
                "schedule.warmup_steps (12) must be less than steps (12)",
            ),
            (
                {"schedule": {"name": "multi_step", "milestones": [4, 8], "factor": 0.1, "warmup_steps": 4}},
                "schedule.milestones ((4, 8)) lie within warmup_steps (4)",
            ),
            (
                {"schedule": {"name": "cosine", "minimum": 0, "flat": 9, "warmup_steps": 3}},
                "schedule.flat (9) must be less than steps (9)",
            ),
            ({"schedule": RESTARTS | {"periods": [4, 7]}}, "schedule.periods (11 together) end before the steps (12)"),
            ({"schedule": RESTARTS | {"minima": [0.01, 0.0]}}, "are above learning_rate (0.001)"),
            ({"schedule": RESTARTS | {"weights": [1.0]}}, "give as many minima and weights as periods"),
            (
                {"progressive_learning": [{"after": 12, "batch": 4, "patch": 8}]},
                "after must grow, and end before steps (12)",
            ),
            (
                {"progressive_learning": [{"after": 6, "batch": 4, "patch": 8}, {"after": 6, "batch": 2, "patch": 9}]},
                "found [6, 6]",
            ),
            ({"progressive_learning": [{"after": 6, "batch": 4}]}, "progressive_learning.0.patch: missing"),
            ({"reconstruction": "l2"}, "'l1', 'psnr' or 'charbonnier'"),
            ({"grad_clip_norm": 0}, "grad_clip_norm"),
            ({"mixup": {"beta": 1.2}}, "mixup.probability: missing"),
            (
                {"schedule": {"name": "multi_step", "milestones": [0], "factor": 0.1}},
                "milestones.0",
            ),
            (optimiser_of("sgd"), "optimiser.name"),
            (optimiser_of("adam", (0.9, 1.0)), "optimiser.betas.1"),
            ({"learning_rate": 0}, "learning_rate"),
            ({"precision": "fp16"}, "precision"),
            ({"ema_decay": 1}, "ema_decay"),
            ({"log_evry": 5}, "Did you mean 'log_every'?"),
        ],
    )
    def test_a_wrong_value_is_refused_by_its_key(self, change, said):
        values = tiny.recipe().model_dump(mode="json") | change
        with pytest.raises(InputError) as raised:
            typed(Training, values, "params.yaml: students.sr.training")
        assert said in str(raised.value)
        assert str(raised.value).startswith("params.yaml: students.sr.training")
