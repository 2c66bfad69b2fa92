import numpy as np
import pytest
import torch

from components.training.mixup import mix
from components.training.recipe import Mixup
from tests.training import tiny

ALWAYS = Mixup(beta=1.2, probability=1.0)


def share_and_partners(batch, mixed):
    """The weight and the permutation that explain a mixed batch, found by trying."""
    found = []
    for image, own in zip(mixed.degraded, batch.degraded, strict=True):
        fits = []
        for place, other in enumerate(batch.degraded):
            difference = own - other
            if difference.abs().max() == 0:
                fits += [(1.0, place)] if torch.allclose(image, own, atol=1e-6) else []
                continue
            weight = float(((image - other) * difference).sum() / difference.square().sum())
            if torch.allclose(image, weight * own + (1 - weight) * other, atol=1e-5):
                fits.append((weight, place))
        found.append(fits)
    return found


def test_each_sample_is_the_mean_of_itself_and_another_with_one_weight_degraded_and_clean_alike():
    batch = tiny.batch(size=6, step=3)
    mixed = mix(batch, ALWAYS, seed=5, rank=0)
    explained = [fits[0] for fits in share_and_partners(batch, mixed)]
    partners = [place for _, place in explained]
    (weight,) = {round(weight, 4) for (weight, place), own in zip(explained, range(6), strict=True) if place != own}
    assert sorted(partners) == list(range(6)), "a permutation"
    assert 0 < weight < 1
    expected = weight * batch.clean + (1 - weight) * batch.clean[partners]
    torch.testing.assert_close(mixed.clean, expected, atol=1e-4, rtol=0)
    assert torch.equal(mixed.seeds, batch.seeds)
    assert mixed.step == batch.step


def test_depends_on_the_seed_and_the_step_alone():
    batch = tiny.batch(size=4)
    first = mix(batch, ALWAYS, seed=5, rank=0)
    torch.manual_seed(8)
    np.random.seed(8)  # noqa: NPY002 - the global generator must not matter
    assert torch.equal(mix(batch, ALWAYS, seed=5, rank=0).degraded, first.degraded)
    assert not torch.equal(mix(batch, ALWAYS, seed=6, rank=0).degraded, first.degraded)
    assert not torch.equal(mix(batch._replace(step=2), ALWAYS, seed=5, rank=0).degraded, first.degraded)


def test_leaves_the_other_steps_as_they_are():
    """Restormer's `use_identity`: half of them."""
    batch, half = tiny.batch(size=2), Mixup(beta=1.2, probability=0.5)
    kept = [mix(batch._replace(step=step), half, seed=1, rank=0).degraded is batch.degraded for step in range(600)]
    assert 250 < sum(kept) < 350  # standard deviation 12


@pytest.mark.parametrize("beta", [0.4, 1.2])
def test_the_weight_is_drawn_from_its_distribution(beta):
    """Mean 1/2, variance 1 / (4 (2 beta + 1))."""
    batch = tiny.batch(size=2, side=2)
    weights = []
    for step in range(3000):
        mixed = mix(batch._replace(step=step), Mixup(beta=beta, probability=1.0), seed=1, rank=0)
        difference = batch.degraded[0] - batch.degraded[1]
        weight = float(((mixed.degraded[0] - batch.degraded[1]) * difference).sum() / difference.square().sum())
        weights += [weight] if weight < 1 - 1e-5 else []  # the others were mixed with themselves
    assert len(weights) > 1300
    assert np.mean(weights) == pytest.approx(0.5, abs=0.03)
    assert np.var(weights) == pytest.approx(1 / (4 * (2 * beta + 1)), rel=0.1)


@pytest.mark.parametrize("change", [{"beta": 0}, {"probability": 0}, {"probability": 1.5}])
def test_refuses_what_is_no_distribution(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Mixup(**({"beta": 1.2, "probability": 0.5} | change))
