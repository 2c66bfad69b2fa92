"""SKD beside its formulas in float64, position by position; no code was released."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from components.backbones.rcan import Rcan
from components.images.bicubic import upscale
from components.images.bicubic_tensors import resize_batch
from components.methods import MethodChoice, build_method, skd
from components.methods.method import Frozen, Setting
from components.methods.parts.cross_attention import cross_channel, cross_spatial, kernel_distance, pooled
from components.methods.skd import Skd
from components.run.errors import InputError
from components.run.params import typed
from tests.methods import slow_edsr as slow
from tests.methods.test_crosskd import Counted, Halving
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

FEATURES = ("kernel", "cross_channel", "cross_spatial")
ALL = ("reconstruction", *FEATURES, "contrastive")
DEPTHS = (0.5, 1.0)
TAPS = ((1, 2), (2, 4))  # blocks before each tap: of the student's 2 and of the teacher's 4
LEVELS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


def random(*shape, seed=1, scale=1.0, offset=0.0):
    return offset + scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_attention(queries, keys, temperature):
    """`softmax(Q K^T / lambda) K`, a query at a time: rows with root mean square 1, lambda their length's root."""
    size = keys.shape[1]

    def unit(row):
        return row / torch.sqrt((row**2).sum() / size)

    rows = []
    for query in queries:
        scores = [(unit(query) * unit(key)).sum() / (temperature * math.sqrt(size)) for key in keys]
        largest = max(score.item() for score in scores)
        powers = [torch.exp(score - largest) for score in scores]
        rows.append(sum(power * key for power, key in zip(powers, keys, strict=True)) / sum(powers))
    return torch.stack(rows)


def slow_channel(student, teacher, temperature=1.0):
    return torch.stack([slow_attention(*pair, temperature) for pair in zip(teacher, student, strict=True)])


def slow_spatial(student, teacher, temperature=1.0):
    return torch.stack([slow_attention(t.T, s.T, temperature).T for s, t in zip(student, teacher, strict=True)])


def slow_kernel(student, teacher):
    values = []
    for ours, theirs in zip(student, teacher, strict=True):
        positions = range(ours.shape[1])
        own = [((ours[:, p] - theirs[:, p]) ** 2).mean() for p in positions]
        all_pairs = [((ours[:, p] - theirs[:, q]) ** 2).mean().item() for p in positions for q in positions]
        distance, bandwidth = sum(own) / len(own), sum(all_pairs) / len(all_pairs)
        values.append(1 - torch.exp(-distance / (2 * bandwidth)))
    return sum(values) / len(values)


def slow_pooled(features, side):
    height, width = features.shape[2:]
    rows = [
        torch.stack(
            [features[:, :, y : y + side, x : x + side].mean((2, 3)) for x in range(0, width, side)],
            dim=-1,
        )
        for y in range(0, height, side)
    ]
    return torch.stack(rows, dim=-2)


def network_pair():
    return slow.network(4, 2, 1), slow.network(6, 4, 2)


def made(student, teacher, terms=ALL, encoder=tiny.encoder, **arguments):
    torch.manual_seed(3)
    setting = Setting(student, frozenset(terms), 0, Frozen(teacher), load_encoder=lambda: Frozen(encoder()))
    return Skd(setting, **arguments)


class TestAttention:
    STUDENT, TEACHER = random(2, 5, 12, seed=1, scale=40, offset=9), random(2, 5, 12, seed=2, scale=3)

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
    @pytest.mark.parametrize(("fast", "plain"), [(cross_channel, slow_channel), (cross_spatial, slow_spatial)])
    def test_is_that_of_the_formula(self, fast, plain, temperature):
        found = fast(self.STUDENT.float(), self.TEACHER.float(), temperature)
        expected = plain(self.STUDENT, self.TEACHER, temperature)
        assert found.shape == self.STUDENT.shape
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())

    @pytest.mark.parametrize("axis", [1, 2])
    def test_every_channel_or_position_is_a_convex_combination_of_the_students(self, axis):
        mixed = (cross_channel, cross_spatial)[axis - 1](self.STUDENT, self.TEACHER)
        assert (mixed <= self.STUDENT.amax(axis, keepdim=True) + 1e-9).all()
        assert (mixed >= self.STUDENT.amin(axis, keepdim=True) - 1e-9).all()
        ones = torch.ones_like(self.STUDENT)
        torch.testing.assert_close((cross_channel, cross_spatial)[axis - 1](ones, self.TEACHER), ones)

    @pytest.mark.parametrize("attend", [cross_channel, cross_spatial])
    def test_the_scale_of_the_features_does_not_saturate_the_softmax(self, attend):
        torch.testing.assert_close(
            attend(1e4 * self.STUDENT, 1e-4 * self.TEACHER), 1e4 * attend(self.STUDENT, self.TEACHER)
        )

    def test_a_query_without_direction_attends_to_all_alike(self):
        mixed = cross_spatial(self.STUDENT, torch.zeros_like(self.TEACHER))
        torch.testing.assert_close(mixed, self.STUDENT.mean(2, keepdim=True).expand_as(mixed))

    def test_the_students_order_does_not_matter_and_the_teachers_is_the_results(self):
        order = torch.tensor([7, 2, 11, 0, 5, 9, 1, 3, 10, 4, 8, 6])
        mixed = cross_spatial(self.STUDENT, self.TEACHER)
        torch.testing.assert_close(cross_spatial(self.STUDENT[..., order], self.TEACHER), mixed)
        torch.testing.assert_close(cross_spatial(self.STUDENT, self.TEACHER[..., order]), mixed[..., order])


class TestKernelDistance:
    STUDENT, TEACHER = random(3, 4, 10, seed=1, scale=40, offset=9), random(3, 4, 10, seed=2, scale=30)

    def test_is_that_of_the_formula_with_its_gradient(self):
        student, slowly = (self.STUDENT.clone().requires_grad_() for _ in range(2))
        expected = slow_kernel(slowly, self.TEACHER)
        expected.backward()
        found = kernel_distance(student, self.TEACHER)
        found.backward()
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
        torch.testing.assert_close(student.grad, slowly.grad, rtol=1e-9, atol=1e-15)
        single = kernel_distance(self.STUDENT.float(), self.TEACHER.float())
        assert single.item() == pytest.approx(expected.item(), rel=1e-5)

    @pytest.mark.parametrize(
        ("scale", "offset"), [(1, 0), (1e4, 0), (1e-4, 0), (1, 1e4), (-1, 0), (-30, 0), (0, 0), (0, 1e3)]
    )
    def test_never_saturates(self, scale, offset):
        """Its exponent is 1 at most, so that the gradient keeps 1/e of its factor, wherever the student is."""
        student = (scale * self.TEACHER + offset + 1e-3 * random(3, 4, 10, seed=7)).requires_grad_()
        loss = kernel_distance(student, self.TEACHER)
        loss.backward()
        assert 0 < loss.item() <= 1 - 1 / math.e + 1e-9
        difference = student.detach() - self.TEACHER
        pairs = student.detach()[..., None] - self.TEACHER[:, :, None]
        bandwidth = pairs.square().mean((1, 2, 3), keepdim=True)[..., 0]
        # Of d^2 / (2 sigma^2), meant over 40 entries and 3 samples.
        linear = difference / (40 * bandwidth) / 3
        assert (student.grad / linear).min() >= 1 / math.e - 1e-9
        assert (student.grad / linear).max() <= 1

    def test_a_fixed_bandwidth_and_the_median_do_saturate(self):
        """Why it is the mean of the pairs: a sum of squares with sigma 1, and a crop that is flat but for its edge."""
        assert torch.exp(-(self.STUDENT - self.TEACHER).square().sum((1, 2)) / 2).max() == 0
        flat = torch.zeros(1, 1, 10, dtype=torch.float64)
        edge = flat.clone()
        edge[..., 0] = 1
        assert (edge.transpose(1, 2) - flat).square().median() == 0
        assert 0 < kernel_distance(edge, flat) < 0.6

    def test_falls_to_zero_on_the_way_to_the_teacher(self):
        values = [
            kernel_distance(torch.lerp(self.STUDENT, self.TEACHER, share), self.TEACHER).item()
            for share in (0.0, 0.3, 0.6, 0.9, 1.0)
        ]
        assert values == sorted(values, reverse=True)
        assert values[-1] == 0

    @pytest.mark.parametrize("constant", [0.0, 7.0])
    def test_equal_flat_features_have_no_distance_and_a_finite_gradient(self, constant):
        student = torch.full((2, 3, 5), constant, requires_grad=True)
        loss = kernel_distance(student, torch.full((2, 3, 5), constant))
        loss.backward()
        assert loss == 0
        assert not student.grad.any()

    def test_is_each_samples_own(self):
        alone = torch.stack([kernel_distance(self.STUDENT[i : i + 1], self.TEACHER[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(kernel_distance(self.STUDENT, self.TEACHER), alone.mean())


class TestResolution:
    @pytest.mark.parametrize(("tokens", "side"), [(35, 1), (34, 2), (12, 2), (11, 3), (6, 3), (4, 4), (1, 7)])
    def test_larger_maps_are_averaged_over_the_smallest_squares_that_fit(self, tokens, side):
        features = random(2, 3, 5, 7)
        found = pooled(features, tokens)
        assert found.shape[2:] == (math.ceil(5 / side), math.ceil(7 / side))
        assert found[0, 0].numel() <= tokens
        torch.testing.assert_close(found, slow_pooled(features, side))

    def test_limits_the_cross_spatial_attention_alone(self):
        student, teacher = network_pair()
        whole, limited = (
            made(student, teacher, FEATURES, attention_tokens=tokens)(student, tiny.batch()) for tokens in (64, 16)
        )
        assert whole["cross_spatial"] != limited["cross_spatial"]
        assert torch.equal(whole["kernel"], limited["kernel"])
        assert torch.equal(whole["cross_channel"], limited["cross_channel"])

    def test_fewer_than_four_positions_are_refused(self):
        entry = {"name": "skd", **tiny.PARAMS["methods"]["skd"], "attention_tokens": 3}
        with pytest.raises(InputError, match=r"methods\.skd.*attention_tokens.*greater than or equal to 4"):
            typed(MethodChoice, entry, "params.yaml: methods.skd")


class TestFormula:
    @pytest.mark.parametrize(("tokens", "side"), [(64, 1), (16, 2)])
    def test_losses_of_features_are_those_written_out(self, tokens, side):
        student, teacher = network_pair()
        method = made(student, teacher, FEATURES, depths=DEPTHS, attention_tokens=tokens, temperature=0.7)
        image = tiny.batch().degraded
        ours, theirs, projections = (slow.weights_of(module) for module in (student, teacher, method))
        expected = dict.fromkeys(FEATURES, 0)
        with torch.no_grad():
            for place, (own, taught) in enumerate(TAPS):
                skip = slow.begin(ours, image)
                features = slow.blocks(ours, skip, skip, 0, own, 2)
                features = slow.projected(projections[f"projections.{place}.weight"], features)
                skip = slow.begin(theirs, image)
                goal = slow.blocks(theirs, skip, skip, 0, taught, 4)
                flat, flat_goal = features.flatten(2), goal.flatten(2)
                small, small_goal = (slow_pooled(maps, side).flatten(2) for maps in (features, goal))
                expected["kernel"] += slow_kernel(flat, flat_goal)
                expected["cross_channel"] += slow_kernel(slow_channel(flat, flat_goal, 0.7), flat_goal)
                expected["cross_spatial"] += slow_kernel(slow_spatial(small, small_goal, 0.7), small_goal)
        found = method(student, tiny.batch())
        for term in FEATURES:
            assert found[term].item() == pytest.approx(expected[term].item(), rel=1e-5), term

    @pytest.mark.parametrize("positive", ["teacher", "clean"])
    @pytest.mark.parametrize("encoder_range", ["zero_one", "minus_one_one"])
    def test_the_contrast_is_between_the_positive_and_the_enlarged_input(self, positive, encoder_range):
        student, teacher = network_pair()
        method = made(student, teacher, ["contrastive"], positive=positive, encoder_range=encoder_range)
        encoder, batch = tiny.encoder().double(), tiny.batch()
        image = batch.degraded
        with torch.no_grad():
            restored = slow.restore(slow.weights_of(student), image, 2)
            label = slow.restore(slow.weights_of(teacher), image, 4) if positive == "teacher" else batch.clean.double()
            images = (restored, label, resize_batch(image.double(), Fraction(2)))
            if encoder_range == "minus_one_one":
                images = [2 * values - 1 for values in images]
            levels = zip(LEVELS, *(encoder.taps(values) for values in images), strict=True)
            expected = sum(
                weight * slow.l1(anchor, near) / (slow.l1(anchor, far) + 1e-7) for weight, anchor, near, far in levels
            )
        found = method(student, batch)["contrastive"]
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)

    def test_the_input_is_enlarged_as_matlab_does(self):
        photograph = tiny.photograph(0)
        found = resize_batch(torch.from_numpy(photograph).permute(2, 0, 1)[None].double(), Fraction(2))
        # MATLAB rounds each of its two passes to bytes.
        expected = upscale(photograph, 2).astype(float)
        assert np.abs(found[0].permute(1, 2, 0).clamp(0, 255).numpy() - expected).max() < 2


class TestNetworks:
    def test_equal_widths_need_no_projection_and_unequal_ones_one_a_depth(self):
        assert list(made(tiny.edsr(), tiny.edsr(seed=2, blocks=2)).parameters()) == []
        method = made(*network_pair(), depths=DEPTHS)
        assert [tuple(value.shape) for value in method.parameters()] == 2 * [(6, 4, 1, 1)]

    def test_projections_have_a_gradient_of_every_loss_that_uses_them(self):
        student, teacher = network_pair()
        for term in FEATURES:
            method = made(student, teacher, [term], depths=DEPTHS)
            method(student, tiny.batch())[term].backward()
            assert all(value.grad.norm() > 0 for value in method.parameters())
        assert list(made(student, teacher, ["reconstruction", "contrastive"]).parameters()) == []

    def test_of_two_families_are_compared_at_the_same_relative_depths(self):
        torch.manual_seed(1)
        teacher = Rcan(2, channels=6, groups=6, blocks=1, reduction=2)
        student = slow.network(4, 3, 1)
        method = made(student, teacher)
        assert (method.student_cuts, method.teacher_cuts) == ((0, 1, 2), (1, 3, 5))
        torch.stack(list(method(student, tiny.batch()).values())).sum().backward()
        assert all(value.grad.norm() > 0 for value in student.parameters())

    def test_whose_maps_differ_in_size_are_refused_with_both_sizes(self):
        torch.manual_seed(1)
        setting = Setting(tiny.edsr(), frozenset(FEATURES), 0, Frozen(Halving(2, channels=8, blocks=2)))
        with pytest.raises(InputError, match=r"methods\.skd\.depths: 0\.333: .*16 x 16.*8 x 8.*write another depth"):
            build_method(tiny.choice("skd"), setting)

    def test_levels_without_a_weight_are_refused(self):
        with pytest.raises(InputError, match=r"methods\.skd\.tap_weights: 2 weights.*5 levels"):
            tiny.make_method(tiny.choice("skd", tap_weights=[0.5, 1.0]), tiny.edsr())

    def test_under_bf16_features_are_compared_in_single_precision(self, monkeypatch):
        student, teacher = network_pair()
        method = made(student, teacher, FEATURES)
        exact = method(student, tiny.batch())
        seen = []

        def watched(ours, theirs, temperature):
            seen.append((ours.dtype, theirs.dtype, (ours @ theirs.transpose(1, 2)).dtype))
            return cross_channel(ours, theirs, temperature)

        monkeypatch.setattr(skd, "cross_channel", watched)
        with torch.autocast("cpu", torch.bfloat16):
            coarse = method(student, tiny.batch())
        assert set(seen) == {3 * (torch.float32,)}
        for term, loss in exact.items():
            assert coarse[term].dtype == torch.float32
            assert coarse[term].item() == pytest.approx(loss.item(), rel=0.02)


class TestCost:
    HEAD, TAIL = [0, 1], [2, 3, "end"]  # of 4 stages, tapped after the second

    def runs(self, *terms, **arguments):
        student, teacher = (Counted(2, channels=4, blocks=4) for _ in range(2))
        method = made(student, teacher, terms, depths=(0.5,), **arguments)
        student.runs, teacher.runs = [], []
        method(student, tiny.batch())
        return student.runs, teacher.runs

    def test_nobody_runs_what_is_not_asked_for(self):
        whole = self.HEAD + self.TAIL
        assert self.runs("reconstruction") == (whole, [])
        assert self.runs("contrastive", positive="clean") == (whole, [])
        assert self.runs("contrastive", positive="teacher") == (whole, whole)
        for term in FEATURES:
            assert self.runs(term) == (self.HEAD, self.HEAD)
        assert self.runs(*ALL) == (whole, whole)

    def test_without_the_contrast_the_encoder_is_not_even_loaded(self):
        def refuse():
            raise AssertionError

        setting = tiny.setting(tiny.edsr(), ["reconstruction", *FEATURES])
        assert build_method(tiny.choice("skd"), replace(setting, load_encoder=refuse)).contrast is None
