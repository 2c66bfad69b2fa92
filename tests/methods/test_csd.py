"""CSD: against numbers of the official implementation (Booooooooooo/CSD, commit f479c8f), and its traps.

`csd_oracle.npz` holds what it gave on closed-form tensors in float64: `ContrastLoss.L1_forward` with its gradient
(three negatives, the same for every sample), and its slimmable EDSR at full and half width with the gradient of both
widths' L1, in images of [0, 1].
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from components.auxiliary.vgg import Vgg19
from components.backbones.edsr import Edsr
from components.backbones.rcan import Rcan
from components.backbones.san import San
from components.methods import build_method
from components.methods.csd import Csd, other_samples, through_wide
from components.methods.method import Batch, Frozen, Setting
from components.methods.parts.contrast import contrastive
from components.run.errors import InputError
from tests.closed_form import closed_form, fill
from tests.training import tiny

ORACLE = np.load(Path(__file__).with_name("csd_oracle.npz"))
SHAPES = [(4, 4, 16, 24), (4, 4, 8, 12), (4, 8, 4, 6), (4, 8, 2, 3), (4, 16, 1, 2)]
WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
BOTH = frozenset({"reconstruction", "wide_reconstruction"})


def close(ours, name):
    np.testing.assert_allclose(ours.detach().numpy(), ORACLE[name], rtol=1e-5, atol=1e-7, err_msg=name)


def official(scale):
    """The wide network and its half, filled as the official one was."""
    wide = Edsr(scale, channels=8, blocks=2, residual_scale=0.1).double()
    fill(wide)
    student = Edsr(scale, channels=4, blocks=2, residual_scale=0.1).double()
    return wide, student


def sliced(scale, terms=BOTH):
    wide, student = official(scale)
    method = Csd(Setting(student, frozenset(terms), 0, Frozen(wide)), start="teacher")
    return student, method


def test_the_contrast_is_the_official_one():
    def taps(name):
        return [torch.from_numpy(closed_form(f"{name}{i}", shape)) for i, shape in enumerate(SHAPES)]

    anchor = [tap.requires_grad_() for tap in taps("anchor")]
    negatives = [[tap[j].expand_as(tap) for tap in taps("others")] for j in range(3)]
    loss = contrastive(anchor, taps("positive"), negatives, WEIGHTS)
    loss.backward()
    close(loss, "contrast")
    for level in (2, 3, 4):
        close(anchor[level].grad, f"contrast_gradient_{level}")


@pytest.mark.parametrize("scale", [2, 3])
class TestSharedWeights:
    """Against the slimmable network of the release."""

    def images(self, scale):
        degraded = torch.from_numpy(closed_form("degraded", (2, 3, 6, 6), 0, 1))
        return Batch(
            degraded, torch.from_numpy(closed_form("clean", (2, 3, 6 * scale, 6 * scale), 0, 1)), torch.arange(2), 1
        )

    def test_both_widths_restore_as_officially(self, scale):
        student, method = sliced(scale)
        batch = self.images(scale)
        close(student(batch.degraded), f"student_{scale}")
        close(through_wide(method.wide, student, batch.degraded), f"wide_{scale}")
        losses = method(student, batch)
        found = [losses["reconstruction"].item(), losses["wide_reconstruction"].item()]
        np.testing.assert_allclose(found, ORACLE[f"losses_{scale}"], rtol=1e-5)

    def test_the_shared_weights_have_the_gradient_of_both(self, scale):
        student, method = sliced(scale)
        torch.stack(list(method(student, self.images(scale)).values())).sum().backward()
        for name in ("body.0.body.0.weight", "tail.0.0.weight", "tail.1.weight"):
            narrow = student.get_parameter(name).grad
            together = method.wide.get_parameter(name).grad.clone()
            corner = tuple(slice(side) for side in narrow.shape)
            assert (together[corner] == 0).all()
            together[corner] = narrow
            close(together, f"gradient_{scale}_{name}")

    def test_a_step_of_the_student_is_one_of_the_wide_network(self, scale):
        student, method = sliced(scale)
        image = self.images(scale).degraded
        before = through_wide(method.wide, student, image)
        with torch.no_grad():
            student.body[0].body[0].weight.mul_(1.5)
        assert not torch.equal(through_wide(method.wide, student, image), before)


class TestStart:
    def test_from_the_teacher_the_student_is_its_slice_and_the_teacher_stays(self):
        wide, student = official(2)
        before = {name: value.clone() for name, value in wide.state_dict().items()}
        method = Csd(Setting(student, BOTH, 0, Frozen(wide)), start="teacher")
        assert torch.equal(student.body[1].body[2].weight, wide.body[1].body[2].weight[:4, :4])
        optimiser = torch.optim.SGD([*student.parameters(), *method.parameters()], lr=0.1)
        degraded, clean = torch.rand(2, 3, 6, 6).double(), torch.rand(2, 3, 12, 12).double()
        torch.stack(list(method(student, Batch(degraded, clean, torch.arange(2), 1)).values())).sum().backward()
        optimiser.step()
        assert all(torch.equal(value, before[name]) for name, value in wide.state_dict().items())
        assert not torch.equal(method.wide.body[1].body[2].weight, wide.body[1].body[2].weight)

    def test_the_control_arm_is_the_slice_and_l1_alone(self):
        student, method = sliced(2, ["reconstruction"])
        assert method.wide is None
        assert list(method.parameters()) == []
        assert torch.equal(student.head[0].weight, official(2)[0].head[0].weight[:4])

    def test_a_student_of_another_depth_is_no_slice(self):
        with pytest.raises(
            InputError, match=r"methods.csd.wide: the student must be a slice .* only one of them has body"
        ):
            build_method(tiny.choice("csd", wide=None, start="teacher"), tiny.setting(tiny.edsr(), BOTH))

    def test_of_another_family_neither(self):
        setting = Setting(tiny.edsr(), BOTH, 0, Frozen(Rcan(2, 16, groups=1, blocks=1)))
        with pytest.raises(InputError, match=r"methods.csd.wide: the student must be a slice"):
            build_method(tiny.choice("csd", wide=None, start="teacher"), setting)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"wide": {"channels": 4}}, r"csd.wide: .* is \(8, 3, 3, 3\) in the student, larger than \(4, 3, 3, 3\)"),
            ({"wide": None}, r"csd.wide: missing; write in which arguments"),
            ({"start": "teacher"}, r"csd.wide: the teacher is the wide network"),
            ({"tap_weights": [1.0]}, r"csd.tap_weights: 1 weights, but the encoder has 5 levels"),
        ],
    )
    def test_what_can_not_be_is_refused(self, changes, said):
        picked = tiny.choice("csd", **changes)
        with pytest.raises(InputError, match=said):
            build_method(picked, tiny.setting(tiny.edsr(), picked.weights))


class TestNegatives:
    def test_are_never_the_sample_itself_and_never_twice_the_same(self):
        seeds = torch.arange(16) * 7
        chosen = other_samples(seeds, seeds, 10)
        assert chosen.shape == (16, 10)
        for place, others in enumerate(chosen.tolist()):
            assert place not in others
            assert len(set(others)) == 10

    def test_differ_between_samples(self):
        seeds = torch.arange(16)
        assert len({tuple(row) for row in other_samples(seeds, seeds, 3).tolist()}) > 8

    def test_of_a_share_of_the_batch_are_those_of_the_whole(self):
        seeds = torch.arange(8) + 50
        assert torch.equal(other_samples(seeds[4:], seeds, 5), other_samples(seeds, seeds, 5)[4:])

    def test_are_all_others_where_they_are_few(self):
        assert other_samples(torch.arange(3), torch.arange(3), 10).shape == (3, 2)

    def test_a_batch_of_one_has_none(self):
        with pytest.raises(InputError, match=r"training.batch: 1 has no other sample"):
            other_samples(torch.arange(1), torch.arange(1), 10)


class TestVgg19:
    """Layers by torchvision's definition of `vgg19`, configuration E of the paper."""

    def test_has_its_parameters_up_to_conv5_1(self):
        assert sum(value.numel() for value in Vgg19().parameters()) == 12_944_960
        convolutions = {int(name.split(".")[1]) for name in Vgg19().state_dict()}
        assert convolutions == {0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28}

    def test_is_tapped_behind_the_first_relu_of_each_block(self):
        taps = Vgg19().taps(torch.rand(1, 3, 32, 48))
        assert [tuple(tap.shape[1:]) for tap in taps] == [
            (64, 32, 48),
            (128, 16, 24),
            (256, 8, 12),
            (512, 4, 6),
            (512, 2, 3),
        ]
        assert all((tap >= 0).all() for tap in taps)


def test_what_the_student_does_not_train_the_wide_network_does_not_either():
    """SAN holds parameters that nothing uses: trained, several processes would wait for their gradient forever."""
    arguments = {"groups": 1, "blocks": 1, "reduction": 4}
    student = San(2, channels=8, **arguments)
    setting = Setting(
        student,
        frozenset({"reconstruction", "wide_reconstruction"}),
        0,
        build=lambda **changes: San(2, **arguments | changes),
    )
    method = Csd(setting, wide={"channels": 16})
    sum(method(student, tiny.batch()).values()).backward()
    trained = [*method.named_parameters(), *student.named_parameters()]
    assert [name for name, value in trained if value.requires_grad and value.grad is None] == []
