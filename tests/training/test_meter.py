import math

import pytest
import torch

from components.images.distances import DISTANCES
from components.training.distribution import start
from components.training.meter import WORST, DivergedError, Meter, refuse_senseless_end
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("own_accelerator")


@pytest.fixture
def meter():
    return Meter(start(tiny.recipe()))


def losses(total, first, second):
    return {"total": torch.tensor(total), "first": torch.tensor(first), "second": torch.tensor(second)}


def test_means_are_those_of_the_steps_since_the_last_time(meter):
    for step, value in enumerate([1.0, 2.0, 6.0], start=1):
        meter.add(step, losses(value, 2 * value, -value))
    assert meter.means() == {"total": 3, "first": 6, "second": -3}
    meter.add(4, losses(5.0, 0.5, 7.0))
    assert meter.means() == {"total": 5, "first": 0.5, "second": 7}


def test_means_are_of_numbers_without_a_graph(meter):
    weight = torch.ones((), requires_grad=True)
    meter.add(1, {"total": weight * 2})
    assert not meter._sums.requires_grad


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_broken_loss_is_named_with_its_step(value, meter):
    meter.add(41, losses(1.0, 1.0, 1.0))
    meter.add(42, losses(value, 1.0, value))
    meter.add(43, losses(value, value, value))
    with pytest.raises(DivergedError, match=r"not finite: second, at step 42\."):
        meter.means()


def test_infinities_of_both_signs_do_not_hide_each_other(meter):
    meter.add(1, losses(1.0, math.inf, 1.0))
    meter.add(2, losses(1.0, -math.inf, 1.0))
    with pytest.raises(DivergedError, match="first, at step 1"):
        meter.means()


def test_a_sum_of_finite_losses_that_is_not_is_named_total(meter):
    """Weights so large that only their sum overflows."""
    meter.add(1, losses(math.inf, 1.0, 1.0))
    with pytest.raises(DivergedError, match="not finite: total, at step 1"):
        meter.means()


def test_losses_too_large_to_be_summed_are_named_too(meter):
    for step in range(1, 6):
        meter.add(step, losses(1.0, 1e38, 1.0))
    with pytest.raises(DivergedError, match="not finite: first, at step 4"):
        meter.means()


@pytest.mark.parametrize("name", DISTANCES)
def test_no_distance_between_black_and_white_counts_as_senseless(name):
    found = float(DISTANCES[name](torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)))
    assert found <= WORST
    refuse_senseless_end({"step": 2.0, "total": 1e31, "reconstruction": found})
    assert float(DISTANCES[name](torch.full((1, 3, 4, 4), 1e6), torch.ones(1, 3, 4, 4))) > WORST


@pytest.mark.parametrize("term", ["reconstruction", "logits"])
def test_images_beyond_any_image_are_refused_at_the_end(term):
    with pytest.raises(DivergedError, match=rf"the loss {term} ends at 1e\+31.*Lower the learning rate"):
        refuse_senseless_end({"step": 2.0, "total": 1.0, term: 1e31})
