"""DUKD: against numbers from the official implementation (yun224/DUKD, commit 6960273), and what it must not repeat.

`dukd_oracle.npz` holds what it gave on closed-form tensors: its reduction of images (BasicSR's `imresize`, float32),
and the losses and weights of three whole `DUKD.optimize_parameters` with all tiles, in float64 (EDSR student and
teacher, SGD): `all` at x2 with every change, `none` at x3 without.
"""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from components.backbones.edsr import Edsr
from components.images.bicubic import downscale
from components.images.bicubic_tensors import resize_batch
from components.methods import build_method
from components.methods.dukd import Dukd
from components.methods.method import Batch, Frozen, Setting
from components.run.errors import InputError
from components.training.optimisation import make_optimiser
from tests.closed_form import closed_form, fill
from tests.training import tiny

ORACLE = np.load(Path(__file__).with_name("dukd_oracle.npz"))
TERMS = ("reconstruction", "logits", "zoom_in", "zoom_out_reconstruction", "zoom_out_logits")
WEIGHTS = dict(zip(TERMS, (5.0, 1.0, 1.0, 5.0, 1.0), strict=True))


def network(scale, blocks, factor):
    edsr = Edsr(scale, channels=4, blocks=blocks).double()
    fill(edsr, factor)
    return edsr


def method_for(student, teacher, terms=TERMS, **arguments):
    return Dukd(Setting(student, frozenset(terms), 0, Frozen(teacher)), **arguments)


def batch(step, scale):
    degraded = torch.from_numpy(closed_form(f"degraded{step}", (2, 3, 12, 12), 0, 1))
    clean = torch.from_numpy(closed_form(f"clean{step}", (2, 3, 12 * scale, 12 * scale), 0, 1))
    return Batch(degraded, clean, torch.arange(2), step)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_reduction_is_the_official_one(scale):
    images = torch.from_numpy(closed_form("small", (2, 3, 12, 12), 0, 1))
    np.testing.assert_allclose(resize_batch(images, Fraction(1, scale)), ORACLE[f"reduced_{scale}"], rtol=1e-5)


def test_the_reduction_is_matlabs_before_rounding():
    clean = tiny.photograph(0)
    found = resize_batch(torch.from_numpy(clean).permute(2, 0, 1)[None].double(), Fraction(1, 2))
    expected = downscale(clean, 2).astype(float)
    # MATLAB rounds each of its two passes to bytes, by half a level at most.
    assert np.abs(found[0].permute(1, 2, 0).clamp(0, 255).numpy() - expected).max() < 1.3


@pytest.mark.parametrize(("tag", "scale", "probability"), [("all", 2, 1.0), ("none", 3, 0.0)])
def test_three_released_iterations_are_the_official_ones(tag, scale, probability):
    """Two steps of the optimiser an iteration, the second on the gradient of both."""
    student, teacher = network(scale, 1, 0.5), network(scale, 2, 0.4)
    method = method_for(student, teacher, tiles=scale**2, augmentation_probability=probability, optimiser_steps=2)
    optimiser = torch.optim.SGD(student.parameters(), lr=1e-4)
    for step, official in enumerate(ORACLE[f"{tag}_losses"], start=1):
        losses = {}
        for part in range(method.parts):
            found = method(student, batch(step, scale)._replace(part=part))
            torch.stack([WEIGHTS[name] * loss for name, loss in found.items()]).sum().backward()
            optimiser.step()
            losses |= found
        optimiser.zero_grad()
        np.testing.assert_allclose([WEIGHTS[name] * losses[name].item() for name in TERMS], official, rtol=1e-5)
    weights = np.concatenate([value.detach().flatten().numpy() for value in student.parameters()])
    np.testing.assert_allclose(weights, ORACLE[f"{tag}_weights"], rtol=1e-5, atol=1e-7)


def test_one_step_sums_what_two_steps_part():
    student, teacher = network(2, 1, 0.5), network(2, 2, 0.4)
    one = method_for(student, teacher)
    two = method_for(student, teacher, optimiser_steps=2)
    together = one(student, batch(1, 2))
    parts = [two(student, batch(1, 2)._replace(part=part)) for part in range(two.parts)]
    assert [list(part) for part in parts] == [list(TERMS[:2]), list(TERMS[2:])]
    assert all(torch.equal(loss, (parts[0] | parts[1])[name]) for name, loss in together.items())


@pytest.mark.parametrize("terms", [TERMS[:2], TERMS[2:]])
def test_a_part_without_losses_is_none(terms):
    student = network(2, 1, 0.5)
    assert method_for(student, network(2, 2, 0.4), terms, optimiser_steps=2).parts == 1


def test_every_changed_tile_is_changed_back():
    """Whatever was drawn: a student has no loss if it equals a teacher that ignores the changes."""

    class Nearest(Edsr):
        def forward(self, image):
            return image.repeat_interleave(2, -1).repeat_interleave(2, -2) + 0 * self.head[0].weight.sum()

    student, teacher = Nearest(2, channels=4, blocks=1), Nearest(2, channels=4, blocks=1)
    method = method_for(student, teacher, ["zoom_in"], augmentation_probability=0.5)
    for step in range(20):
        crops = tiny.batch(step=step, size=8)._replace(seeds=torch.arange(8) + 8 * step)
        assert method(student, crops)["zoom_in"] < 1e-7


def test_the_tiles_are_as_large_as_the_input_and_change_with_the_step():
    student, seen = network(2, 1, 0.5), []
    method = method_for(student, network(2, 2, 0.4), ["zoom_in"], augmentation_probability=0.0)
    student.head[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for step in range(1, 9):
        method(student, batch(1, 2)._replace(step=step))
    assert {tuple(image.shape) for image in seen} == {(2, 3, 12, 12)}
    assert len({image.sum().item() for image in seen}) > 1


@pytest.mark.parametrize(
    ("scale", "changes", "said"),
    [
        (2, {"tiles": 5}, r"params.yaml: methods.dukd.tiles: 5, but a clean crop has 4 at scale 2"),
        (1, {}, r"params.yaml: methods.dukd.weights: zoom_out_reconstruction and zoom_out_logits teach nothing"),
    ],
)
def test_what_can_not_be_is_refused(scale, changes, said):
    student = tiny.edsr()
    student.scale = scale
    picked = tiny.choice("dukd", **changes)
    with pytest.raises(InputError, match=said):
        build_method(picked, tiny.setting(student, picked.weights))


def test_in_training_an_iteration_has_two_steps_of_the_optimiser(monkeypatch, tmp_path, own_accelerator):
    """By the loop: Adam, whose steps are counted, has made two for each of the recipe's."""
    made = []
    monkeypatch.setattr(
        "components.training.loop.make_optimiser", lambda *given: made.append(make_optimiser(*given)) or made[-1]
    )
    lmdb = tiny.write_store(tmp_path / "lmdb")
    picked = tiny.choice("dukd", optimiser_steps=2)
    trained = tiny.distilled(picked, lmdb, tmp_path / "checkpoint", tiny.recipe(steps=3))
    assert {state["step"].item() for state in made[0].state.values()} == {6}
    assert set(TERMS) <= trained.history[-1].keys()
    weighted = sum(picked.weights[name] * trained.history[-1][name] for name in TERMS)
    assert trained.history[-1]["total"] == pytest.approx(weighted, rel=1e-5)
