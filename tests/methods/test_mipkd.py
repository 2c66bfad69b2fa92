"""MiPKD beside mixtures written out in float64; no code was released."""

import itertools
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from components.backbones.edsr import Edsr
from components.backbones.rcan import Rcan
from components.methods import build_method
from components.methods.method import Frozen, Setting
from components.methods.mipkd import MipKd, draw_mask
from components.run.errors import InputError
from tests.methods import slow_edsr as slow
from tests.methods.test_crosskd import Counted, Halving
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = ("reconstruction", "logits", "feature", "autoencoder", "block")
DEPTHS = (0.25, 0.5, 1.0)
TAPS = ((1, 1), (2, 2), (4, 4))  # blocks before each tap: of the student's 4 and of the teacher's 4
STUDENT, TEACHER = 4, 6  # channels


def networks():
    return slow.network(STUDENT, 4, 1), slow.network(TEACHER, 4, 2)


def made(student, teacher, terms=ALL, seed=0, **arguments):
    torch.manual_seed(3)
    return MipKd(Setting(student, frozenset(terms), seed, Frozen(teacher)), **arguments)


class Mixture:
    """The losses in float64 by hand, for what was drawn: masks, and which network runs each block."""

    def __init__(self, student, teacher, method, batch, masks):
        self.ours, self.theirs, self.mixers = (slow.weights_of(module) for module in (student, teacher, method))
        self.batch, self.masks = batch, masks
        self.skips = slow.begin(self.ours, batch.degraded), slow.begin(self.theirs, batch.degraded).detach()
        self.label = slow.restore(self.theirs, batch.degraded, 4).detach()
        self.features = [
            [slow.blocks(weights, skip, skip, 0, taps[side], 4) for taps in TAPS]
            for side, (weights, skip) in enumerate(zip((self.ours, self.theirs), self.skips, strict=True))
        ]
        self.features[1] = [features.detach() for features in self.features[1]]

    def coded(self, name, features):
        return slow.convolved(self.mixers, f"{name}.2", F.relu(slow.convolved(self.mixers, f"{name}.0", features)))

    def latent(self, place):
        return self.coded(f"features.{place}.teacher_encoder", self.features[1][place])

    def enhanced(self, place):
        mask = self.masks[place].double()
        student = self.coded(f"features.{place}.student_encoder", self.features[0][place])
        return self.coded(f"features.{place}.decoder", mask * self.latent(place) + (1 - mask) * student)

    def image(self, draws):
        """From the first tap's enhanced features, through a block of the student (True) or of the teacher each."""
        features, space = self.enhanced(0), 1
        for place, students_turn in enumerate(draws):
            side = 0 if students_turn else 1
            if side != space and side == 0:
                features = slow.projected(self.mixers[f"blocks.into_student.{place}.weight"], features)
            elif side != space:
                features = slow.projected(self.mixers[f"blocks.into_teacher.{place - 1}.weight"], features)
            space, weights, skip = side, (self.ours, self.theirs)[side], self.skips[side]
            last = place == len(TAPS) - 1
            features = slow.blocks(weights, features, skip, TAPS[place][side], 4 if last else TAPS[place + 1][side], 4)
        return slow.end(weights, features)

    def losses(self, draws):
        restored = slow.restore(self.ours, self.batch.degraded, 4)
        places = range(len(TAPS))
        rebuilt = [self.coded(f"features.{place}.decoder", self.latent(place)) for place in places]
        return {
            "reconstruction": slow.l1(restored, self.batch.clean.double()),
            "logits": slow.l1(restored, self.label),
            "feature": sum(slow.l1(self.enhanced(place), self.features[1][place]) for place in places),
            "autoencoder": sum(slow.l1(rebuilt[place], self.features[1][place]) for place in places),
            "block": slow.l1(self.image(draws), self.label),
        }


def masks_of(batch, width=STUDENT, probability=0.5):
    shape = torch.empty(len(batch.seeds), width, *batch.degraded.shape[2:])
    return [draw_mask(batch.seeds, place, shape, probability) for place in range(len(DEPTHS))]


class TestFormula:
    @pytest.mark.parametrize("students", [0.0, 1.0])
    @pytest.mark.parametrize("latent", [None, 5])
    def test_losses_are_those_written_out(self, students, latent):
        student, teacher = networks()
        method = made(student, teacher, depths=DEPTHS, student_probability=students, latent=latent)
        masks = masks_of(tiny.batch(), latent or STUDENT)
        expected = Mixture(student, teacher, method, tiny.batch(), masks).losses(3 * [students == 1])
        found = method(student, tiny.batch())
        assert found.keys() == expected.keys()
        for term, loss in found.items():
            assert loss.item() == pytest.approx(expected[term].item(), rel=1e-5), term

    @pytest.mark.parametrize("term", ["feature", "autoencoder", "block"])
    def test_gradients_are_theirs_too(self, term):
        student, teacher = networks()
        method = made(student, teacher, depths=DEPTHS, student_probability=1.0)
        mixture = Mixture(student, teacher, method, tiny.batch(), masks_of(tiny.batch()))
        mixture.losses(3 * [True])[term].backward()
        method(student, tiny.batch())[term].backward()
        for module, weights in ((student, mixture.ours), (method, mixture.mixers)):
            for key, value in module.named_parameters():
                none = torch.zeros(value.shape, dtype=torch.float64)
                expected = none if weights[key].grad is None else weights[key].grad
                found = none if value.grad is None else value.grad.double()
                scale = expected.abs().max().item()
                torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * scale, msg=key)

    def test_every_way_through_the_blocks_is_drawn_and_gives_its_own_image(self):
        student, teacher = networks()
        method = made(student, teacher, ["block"], depths=DEPTHS, student_probability=0.3)
        mixture = Mixture(student, teacher, method, tiny.batch(), masks_of(tiny.batch()))
        ways = list(itertools.product([False, True], repeat=3))
        with torch.no_grad():
            expected = torch.stack([slow.l1(mixture.image(way), mixture.label) for way in ways])
            found = [method(student, tiny.batch()._replace(step=step))["block"].double() for step in range(1, 301)]
        distances = (torch.stack(found)[:, None] - expected).abs() / expected
        assert distances.amin(1).max() < 1e-5
        assert len({round(value.item(), 7) for value in expected}) == 8
        counts = Counter(distances.argmin(1).tolist())
        for index, way in enumerate(ways):
            share = 0.3 ** sum(way) * 0.7 ** (3 - sum(way))
            assert counts[index] / 300 == pytest.approx(share, abs=0.09)

    def test_a_mask_of_the_teacher_alone_is_the_auto_encoder(self):
        student, teacher = networks()
        losses = made(student, teacher, depths=DEPTHS, mask_probability=1.0)(student, tiny.batch())
        assert torch.equal(losses["feature"], losses["autoencoder"])


class TestMask:
    SEEDS = torch.arange(40)
    LATENT = torch.empty(40, 8, 6, 5)

    @pytest.mark.parametrize("probability", [0.2, 0.5, 0.9])
    def test_is_the_teachers_with_its_probability_in_every_channel_and_position(self, probability):
        mask = draw_mask(self.SEEDS, 0, self.LATENT, probability).float()
        assert mask.shape == self.LATENT.shape
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert mask.mean().item() == pytest.approx(probability, abs=0.02)
        for axes in ((0, 2, 3), (0, 1, 3), (0, 1, 2)):
            assert (mask.mean(axes) - probability).abs().max() < 0.06

    def test_differs_between_channels_positions_samples_and_taps(self):
        masks = torch.stack([draw_mask(self.SEEDS, place, self.LATENT, 0.5) for place in range(3)]).float()
        for rows in (masks.flatten(1), masks.transpose(0, 1).flatten(1), masks.permute(2, 0, 1, 3, 4).flatten(1)):
            assert torch.corrcoef(rows).fill_diagonal_(0).abs().max() < 0.2

    def test_is_the_samples_own(self):
        order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
        whole = draw_mask(self.SEEDS, 1, self.LATENT, 0.5)
        assert torch.equal(draw_mask(self.SEEDS[order], 1, self.LATENT, 0.5), whole[order])


class TestGradient:
    @pytest.mark.parametrize("step", range(1, 9))
    def test_every_trained_parameter_has_one_in_every_step_whatever_was_drawn(self, step):
        student, teacher = networks()
        method = made(student, teacher, depths=DEPTHS)
        losses = method(student, tiny.batch(step=step))
        torch.stack(list(losses.values())).sum().backward()
        assert all(value.grad is not None for value in [*student.parameters(), *method.parameters()])
        assert all(value.grad.norm() > 0 for value in [*student.parameters(), *method.features.parameters()])
        assert all(value.grad is None for value in teacher.parameters())

    @pytest.mark.parametrize(
        "terms", [{"autoencoder"}, {"autoencoder", "block"}, {"block"}, {"feature"}, {"feature", "block"}]
    )
    def test_whatever_the_losses_no_trained_parameter_is_left_without_one(self, terms):
        student, teacher = networks()
        method = made(student, teacher, {"reconstruction", *terms})
        sum(method(student, tiny.batch(step=1)).values()).backward()
        trained = [*method.named_parameters(), *student.named_parameters()]
        assert [name for name, value in trained if value.requires_grad and value.grad is None] == []

    def test_a_projection_that_was_not_crossed_has_a_gradient_of_zero(self):
        student, teacher = networks()
        method = made(student, teacher, ["block"], depths=DEPTHS, student_probability=0.0)
        method(student, tiny.batch())["block"].backward()
        assert all(not value.grad.any() for value in method.blocks.parameters())

    def test_feature_and_block_reach_the_student_through_its_encoder_where_all_blocks_are_the_teachers(self):
        student, teacher = networks()
        method = made(student, teacher, ["block"], depths=DEPTHS, student_probability=0.0)
        method(student, tiny.batch())["block"].backward()
        reached = {key for key, value in student.named_parameters() if value.grad is not None and value.grad.norm() > 0}
        assert reached == {key for key in student.state_dict() if key.startswith(("head", "body.0"))}


class TestWidths:
    def test_equal_ones_need_no_projection(self):
        method = made(tiny.edsr(), tiny.edsr(seed=2, blocks=2))
        assert list(method.blocks.parameters()) == []

    def test_unequal_ones_have_one_wherever_a_path_may_change_the_network(self):
        method = made(*networks(), depths=DEPTHS)
        shapes = [tuple(value.shape) for value in method.blocks.parameters()]
        assert shapes == 3 * [(4, 6, 1, 1)] + 2 * [(6, 4, 1, 1)]

    @pytest.mark.parametrize(("terms", "mixers"), [(["logits"], 0), (["block"], 1), (["feature"], 3)])
    def test_only_the_mixers_that_the_losses_use_are_made(self, terms, mixers):
        method = made(*networks(), terms, depths=DEPTHS)
        assert len(method.features) == mixers
        assert bool(list(method.blocks.parameters())) == ("block" in terms)

    def test_networks_of_two_families_are_mixed_at_the_same_relative_depths(self):
        torch.manual_seed(1)
        teacher = Rcan(2, channels=6, groups=6, blocks=1, reduction=2)
        student = slow.network(4, 3, 1)
        method = made(student, teacher)
        assert (method.student_taps, method.teacher_taps) == ((0, 1, 2), (1, 3, 5))
        torch.stack(list(method(student, tiny.batch()).values())).sum().backward()
        assert all(value.grad.norm() > 0 for value in student.parameters())

    def test_networks_whose_maps_differ_in_size_are_refused_with_both_sizes(self):
        torch.manual_seed(1)
        setting = Setting(tiny.edsr(), frozenset(ALL), 0, Frozen(Halving(2, channels=8, blocks=2)))
        with pytest.raises(InputError, match=r"methods\.mipkd\.depths: 0\.333: .*16 x 16.*8 x 8.*write another depth"):
            build_method(tiny.choice("mipkd"), setting)


class TestCost:
    HEAD, TAIL = [0, 1], [2, 3, "end"]  # of 4 stages, tapped after the first and the second

    def runs(self, *terms, students=1.0):
        student, teacher = (Counted(2, channels=4, blocks=4) for _ in range(2))
        method = made(student, teacher, terms, depths=(0.25, 0.5), student_probability=students)
        student.runs, teacher.runs = [], []
        method(student, tiny.batch())
        return student.runs, teacher.runs

    def test_nobody_runs_what_is_not_asked_for(self):
        assert self.runs("reconstruction") == (self.HEAD + self.TAIL, [])
        assert self.runs("logits") == (self.HEAD + self.TAIL, self.HEAD + self.TAIL)
        assert self.runs("feature") == (self.HEAD, self.HEAD)
        assert self.runs("autoencoder") == ([], self.HEAD)

    def test_all_losses_share_the_passes_and_the_mixed_path_runs_its_own_blocks_alone(self):
        blocks = [1, *self.TAIL]
        assert self.runs(*ALL, students=1.0) == (self.HEAD + self.TAIL + blocks, self.HEAD + self.TAIL)
        assert self.runs(*ALL, students=0.0) == (self.HEAD + self.TAIL, self.HEAD + self.TAIL + blocks)


def test_plain_passes_are_those_of_the_networks():
    """EDSR by hand, which the other tests lean on, is EDSR."""
    network = slow.network(4, 4, 1)
    assert isinstance(network, Edsr)
    image = tiny.batch().degraded
    torch.testing.assert_close(
        slow.restore(slow.weights_of(network), image, 4), network(image).double(), rtol=1e-5, atol=1e-6
    )
