"""SRKD beside a slow version in float64, written from the formulas: there is no official code."""

import itertools

import numpy as np
import pytest
import torch

from components.backbones.backbone import stage_at
from components.backbones.edsr import Edsr
from components.methods.method import Frozen, Setting
from components.methods.srkd import Srkd
from components.run.errors import InputError
from tests.closed_form import closed_form, fill
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

STATISTICS = ("power_of_mean", "mean_of_powers", "maximum", "minimum")
LEVELS = ["low", "middle", "high"]


def between(terms=("reconstruction", *LEVELS), width=4, taught_width=6, blocks=10, **arguments):
    """SRKD between networks of these widths."""
    student, teacher = Edsr(2, width, blocks, residual_scale=0.3), Edsr(2, taught_width, blocks, residual_scale=0.3)
    fill(student, 0.7)
    fill(teacher)
    return student, Srkd(Setting(student, frozenset(terms), seed=0, teacher=Frozen(teacher)), **arguments)


def slow_map(features, statistic, power, normalise):
    """G of one sample's `C h w`, position by position."""
    _, height, width = features.shape
    found = np.zeros((height, width))
    for row, column in itertools.product(range(height), range(width)):
        column_of_channels = [float(value) for value in features[:, row, column]]
        found[row, column] = {
            "power_of_mean": (sum(column_of_channels) / len(column_of_channels)) ** power,
            "mean_of_powers": sum(value**power for value in column_of_channels) / len(column_of_channels),
            "maximum": max(column_of_channels),
            "minimum": min(column_of_channels),
        }[statistic]
    return found / np.sqrt((found**2).sum() / found.size) if normalise else found


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("distance", ["l1", "l2"])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_every_statistic_is_compared_as_the_formulas_say(statistic, power, distance, normalise):
    student, method = between(statistic=statistic, power=power, distance=distance, normalise=normalise)
    batch = tiny.batch(size=2)
    losses = method(student, batch)
    with torch.no_grad():
        _, ours = student.forward_tapped(batch.degraded, (0.4, 0.7, 1.0))
        _, theirs = method.teacher.forward_tapped(batch.degraded, (0.4, 0.7, 1.0))
    for level, one, other in zip(LEVELS, ours, theirs, strict=True):
        maps = [
            np.stack([slow_map(sample, statistic, power, normalise) for sample in tap.double().numpy()])
            for tap in (one, other)
        ]
        difference = np.abs(maps[0] - maps[1])
        expected = difference.mean() if distance == "l1" else (difference**2).mean()
        assert losses[level].item() == pytest.approx(expected, rel=1e-5), level


def test_both_readings_of_a_power_of_one_are_the_mean():
    features = torch.from_numpy(closed_form("features", (2, 5, 4, 3)))
    maps = [between(statistic=statistic, power=1)[1].maps(features) for statistic in STATISTICS[:2]]
    torch.testing.assert_close(*maps)


def test_taps_lie_behind_the_paper_s_blocks():
    assert [stage_at(depth, 10) + 1 for depth in (0.4, 0.7, 1.0)] == [4, 7, 10]


def test_normalised_maps_do_not_see_the_scale_of_features_nor_the_size_of_the_patch():
    _, method = between()
    features = torch.from_numpy(closed_form("features", (1, 5, 4, 6)))
    torch.testing.assert_close(method.maps(300 * features), method.maps(features))
    torch.testing.assert_close(method.maps(features.repeat(1, 1, 2, 2)), method.maps(features).repeat(1, 2, 2))


def test_a_map_of_zeros_has_a_finite_gradient():
    _, method = between()
    features = torch.zeros(1, 5, 4, 6, requires_grad=True)
    method.maps(features).sum().backward()
    assert features.grad.isfinite().all()


def runs(terms):
    """How often the teacher's last block and its tail run in a forward pass."""
    student, method = between(terms)
    counts = {"low": 0, "high": 0, "tail": 0}
    modules = {"low": method.teacher.body[3], "high": method.teacher.body[9], "tail": method.teacher.tail}
    for name, module in modules.items():
        module.register_forward_hook(lambda *_, name=name: counts.update({name: counts[name] + 1}))
    method(student, tiny.batch())
    return counts


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (["reconstruction"], {"low": 0, "high": 0, "tail": 0}),
        (["reconstruction", "low"], {"low": 1, "high": 0, "tail": 0}),
        (LEVELS, {"low": 1, "high": 1, "tail": 0}),
    ],
)
def test_the_teacher_runs_no_further_than_its_deepest_map(terms, expected):
    assert runs(terms) == expected


@pytest.mark.parametrize("depths", [(0.7, 0.4, 1.0), (0.4, 0.4, 1.0)])
def test_depths_out_of_order_are_refused(depths):
    with pytest.raises(InputError, match=r"depths: .*write three from shallow to deep"):
        between(depths=depths)
