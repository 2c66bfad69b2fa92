"""What FAKD compares, what that costs, and what it refuses; its values are in test_fakd_oracle.py."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from components.backbones.backbone import stage_at
from components.backbones.edsr import Edsr
from components.methods.fakd import Fakd
from components.methods.method import Frozen, Setting
from components.methods.parts import affinity, pairwise
from components.methods.parts.pairwise import pairwise_l1
from components.run.errors import InputError
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def numbers(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 0.4


def products(one, other):
    return one.transpose(1, 2) @ other


def distances(one, other):
    return (one.transpose(1, 2) - other).abs()


def plain(student, teacher):
    """The whole matrices, as autograd has them."""
    return F.l1_loss(products(student, student), products(teacher, teacher))


class Largest(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that any operation gives."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        given = function(*arguments, **(keywords or {}))
        for tensor in given if isinstance(given, tuple | list) else [given]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return given


class TestBlocks:
    @pytest.mark.parametrize("positions", [1, 2, 511, 512, 513, 1030])
    @pytest.mark.parametrize("samples", [1, 5])
    def test_give_the_loss_and_the_gradient_of_the_whole(self, positions, samples):
        student, teacher = numbers(samples, 3, positions).requires_grad_(), numbers(samples, 4, positions, seed=2)
        loss, whole = pairwise_l1(student, teacher, products), plain(student, teacher)
        torch.testing.assert_close(loss, whole, rtol=1e-12, atol=0)
        (gradient,), (expected,) = (torch.autograd.grad(3 * value, student) for value in (loss, whole))
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-16)

    @pytest.mark.parametrize("relation", [products, distances])
    def test_have_the_gradient_of_finite_differences(self, relation, monkeypatch):
        monkeypatch.setattr(pairwise, "_ON_CPU", pairwise._Limits(side=3, entries=9))
        student, teacher = numbers(2, 1, 7).requires_grad_(), numbers(2, 1, 7, seed=2)
        assert torch.autograd.gradcheck(lambda features: pairwise_l1(features, teacher, relation), [student])

    def test_leave_no_gradient_where_student_and_teacher_are_equal(self):
        student = numbers(2, 3, 700).float().requires_grad_()
        loss = pairwise_l1(student, student.detach().clone(), products)
        loss.backward()
        assert loss == 0
        assert torch.equal(student.grad, torch.zeros_like(student))

    def test_are_the_most_that_is_held(self):
        """The whole of it would be 2304 * 2304 elements a sample."""
        student = numbers(2, 64, 48, 48).float().requires_grad_()
        with Largest() as largest:
            affinity.spatial(student, student.detach() + 0.1).backward()
        assert 2 * 64 * 2304 <= largest.elements <= 2**19

    def test_need_no_gradient(self):
        student, teacher = numbers(2, 3, 40), numbers(2, 3, 40, seed=2)
        loss = pairwise_l1(student, teacher, products)
        assert not loss.requires_grad
        assert loss == pytest.approx(plain(student, teacher).item(), rel=1e-12)


class TestSpatial:
    def test_does_not_see_how_long_a_positions_vector_is(self):
        student, teacher = numbers(2, 3, 6, 5), numbers(2, 3, 6, 5, seed=2)
        scaled = student * (1 + 5 * numbers(2, 1, 6, 5, seed=3).abs())
        assert affinity.spatial(scaled, teacher) == pytest.approx(affinity.spatial(student, teacher).item(), rel=1e-6)

    def test_is_at_most_two(self):
        student = torch.ones(1, 2, 1, 2)
        teacher = torch.tensor([[[[1.0, -1.0]], [[1.0, -1.0]]]])
        assert affinity.spatial(student, teacher).item() == pytest.approx((0 + 2 + 2 + 0) / 4)


def test_default_taps_are_the_released_ones():
    depths = inspect.signature(Fakd).parameters["depths"].default
    stages = {count: [stage_at(depth, count) for depth in depths] for count in (10, 16, 32, 6)}
    assert stages == {10: [2, 6, 9], 16: [4, 9, 15], 32: [9, 20, 31], 6: [1, 3, 5]}


def between(width, taught_width, terms, **arguments):
    """FAKD between networks of these widths."""
    torch.manual_seed(1)
    student, teacher = Edsr(2, channels=width, blocks=2), Edsr(2, channels=taught_width, blocks=3)
    return student, Fakd(Setting(student, frozenset(terms), seed=0, teacher=Frozen(teacher)), **arguments)


class TestWidths:
    @pytest.mark.parametrize("term", ["channel", "fsp", "fitnet"])
    def test_unequal_ones_are_refused_where_channels_are_compared_one_by_one(self, term):
        with pytest.raises(InputError) as raised:
            between(4, 6, {"reconstruction", term})
        said = f"weights: '{term}' compares channels one by one, but at depth 0.327 the student has 4 and the teacher 6"
        assert said in str(raised.value)
        assert "take it out (spatial, batch and attention compare any widths)" in str(raised.value)

    @pytest.mark.parametrize("term", sorted(Fakd.terms - {"channel", "fsp", "fitnet"}))
    def test_unequal_ones_are_compared_by_all_others(self, term):
        student, method = between(4, 6, {term})
        loss = method(student, tiny.batch())[term]
        loss.backward()
        assert loss > 0
        assert student.head[0].weight.grad.norm() > 0

    def test_a_single_tap_has_no_neighbour(self):
        with pytest.raises(InputError, match=r"depths: 'fsp' compares neighbouring taps: write two or more"):
            between(4, 4, {"fsp"}, depths=(1.0,))


def called(terms):
    """Names of the teacher's parts that a forward pass runs."""
    student, method = between(4, 6, terms)
    names = []
    for name in ("head", "tail"):
        getattr(method.teacher, name).register_forward_hook(lambda *_, name=name: names.append(name))
    method(student, tiny.batch())
    return names


class TestTeacher:
    def test_does_not_run_for_the_reconstruction_alone(self):
        assert called({"reconstruction"}) == []

    def test_restores_no_image_for_features_alone(self):
        assert called({"reconstruction", "spatial"}) == ["head"]

    def test_runs_once_for_both(self):
        assert called({"logits", "spatial", "batch"}) == ["head", "tail"]


class Products(TorchDispatchMode):
    """Keeps the precision of every matrix product."""

    def __init__(self):
        super().__init__()
        self.precisions = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        given = function(*arguments, **(keywords or {}))
        if function.overloadpacket in {torch.ops.aten.bmm, torch.ops.aten.mm}:
            self.precisions.append(given.dtype)
        return given


def test_features_are_compared_in_float32_under_mixed_precision():
    student, method = between(4, 4, Fakd.terms)
    with Products() as products, torch.autocast("cpu", torch.bfloat16):
        method(student, tiny.batch())
    assert len(products.precisions) > 10
    assert set(products.precisions) == {torch.float32}
