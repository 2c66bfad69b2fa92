"""CrossKD beside cascades joined by hand; the paper's code and text are not available."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from components.backbones.edsr import Edsr
from components.backbones.rcan import Rcan
from components.methods import build_method
from components.methods.crosskd import CrossKd
from components.methods.method import Frozen, Setting
from components.run.errors import InputError
from tests.methods import slow_edsr as slow
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = ("reconstruction", "logits", "student_teacher", "teacher_student")
CASCADES = ("student_teacher", "teacher_student")
DEPTHS = (0.5, 1.0)
CUTS = ((1, 2), (2, 4))  # blocks before each cut: of the student's 2 and of the teacher's 4


class Counted(Edsr):
    """Counts the stages it runs, and its ends."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.runs = []

    def stage(self, index, state):
        self.runs.append(index)
        return super().stage(index, state)

    def leave(self, state):
        self.runs.append("end")
        return super().leave(state)


class Halving(Edsr):
    """Its features are half as high and wide as the image."""

    def enter(self, image):
        state = super().enter(image)
        features = F.avg_pool2d(state.features, 2)
        return state._replace(features=features, context=(features,))


def made(student, teacher, terms=ALL, **arguments):
    torch.manual_seed(3)
    return CrossKd(Setting(student, frozenset(terms), 0, Frozen(teacher)), **arguments)


def by_hand(student, teacher, method, batch, target):
    """The losses in float64, and the weights of student and method that they are functions of."""
    ours, theirs, bridges = (slow.weights_of(module) for module in (student, teacher, method))
    image, clean = batch.degraded, batch.clean.double()
    label = slow.restore(theirs, image, 4).detach()
    goal = clean if target == "clean" else label
    losses = {
        "reconstruction": slow.l1(slow.restore(ours, image, 2), clean),
        "logits": slow.l1(slow.restore(ours, image, 2), label),
        "student_teacher": 0,
        "teacher_student": 0,
    }
    for place, (own, taught) in enumerate(CUTS):
        skip = slow.begin(ours, image)
        features = slow.blocks(ours, skip, skip, 0, own, 2)
        features = slow.projected(bridges[f"into_teacher.{place}.projections.0.weight"], features)
        skip = slow.projected(bridges[f"into_teacher.{place}.projections.1.weight"], skip)
        joined = slow.end(theirs, slow.blocks(theirs, features, skip, taught, 4, 4))
        losses["student_teacher"] = losses["student_teacher"] + slow.l1(joined, goal)

        skip = slow.begin(theirs, image).detach()
        features = slow.blocks(theirs, skip, skip, 0, taught, 4).detach()
        features = slow.projected(bridges[f"into_student.{place}.projections.0.weight"], features)
        skip = slow.projected(bridges[f"into_student.{place}.projections.1.weight"], skip)
        joined = slow.end(ours, slow.blocks(ours, features, skip, own, 2, 2))
        losses["teacher_student"] = losses["teacher_student"] + slow.l1(joined, goal)
    return losses, ours, bridges


@pytest.mark.parametrize("target", ["clean", "teacher"])
class TestFormula:
    student, teacher = slow.network(4, 2, 1), slow.network(6, 4, 2)

    def test_losses_are_those_of_cascades_joined_by_hand(self, target):
        method = made(self.student, self.teacher, depths=DEPTHS, target=target)
        expected, _, _ = by_hand(self.student, self.teacher, method, tiny.batch(), target)
        found = method(self.student, tiny.batch())
        assert found.keys() == expected.keys()
        for term, loss in found.items():
            assert loss.item() == pytest.approx(expected[term].item(), rel=1e-5), term

    @pytest.mark.parametrize("term", CASCADES)
    def test_gradients_are_theirs_too(self, target, term):
        student = slow.network(4, 2, 1)
        method = made(student, self.teacher, depths=DEPTHS, target=target)
        expected, ours, bridges = by_hand(student, self.teacher, method, tiny.batch(), target)
        expected[term].backward()
        method(student, tiny.batch())[term].backward()
        for module, weights in ((student, ours), (method, bridges)):
            for key, value in module.named_parameters():
                assert (value.grad is None) == (weights[key].grad is None), key
                if value.grad is not None:
                    scale = weights[key].grad.abs().max().item()
                    torch.testing.assert_close(value.grad.double(), weights[key].grad, rtol=0, atol=2e-5 * scale)


class TestGradient:
    def reached(self, term):
        """Which of the student's parts a loss of a cascade cut after the first of two blocks reaches."""
        student, teacher = slow.network(4, 2, 1), slow.network(6, 4, 2)
        method = made(student, teacher, depths=(0.5,))
        method(student, tiny.batch())[term].backward()
        assert all(value.grad is None for value in teacher.parameters())
        for name, bridges in (("student_teacher", method.into_teacher), ("teacher_student", method.into_student)):
            assert all((value.grad is not None) == (name == term) for value in bridges.parameters())
        return {key for key, value in student.named_parameters() if value.grad is not None and value.grad.norm() > 0}

    HEAD = ("head", "body.0")

    def test_passes_through_the_teachers_tail_into_the_students_head_alone(self):
        keys = slow.network(4, 2, 1).state_dict()
        assert self.reached("student_teacher") == {key for key in keys if key.startswith(self.HEAD)}

    def test_reaches_the_students_tail_alone_where_the_teacher_is_the_head(self):
        keys = slow.network(4, 2, 1).state_dict()
        assert self.reached("teacher_student") == {key for key in keys if not key.startswith(self.HEAD)}


class TestContext:
    """A cascade is one network: its tail sees nothing of what its own network's head made."""

    @pytest.mark.parametrize(("term", "erased"), [("student_teacher", 1), ("teacher_student", 0)])
    def test_is_the_heads(self, term, erased):
        networks = slow.network(4, 2, 1), slow.network(6, 4, 2)
        method = made(*networks, terms=[term])
        before = method(networks[0], tiny.batch())[term]
        with torch.no_grad():
            networks[erased].head[0].weight.zero_()
        assert torch.equal(method(networks[0], tiny.batch())[term], before)


class TestWidths:
    def test_equal_ones_need_no_projection(self):
        assert list(made(tiny.edsr(), tiny.edsr(seed=2, blocks=2)).parameters()) == []

    def test_unequal_ones_have_one_for_the_features_and_one_for_the_skip_of_each_cut_both_ways(self):
        method = made(slow.network(4, 2, 1), slow.network(6, 4, 2), depths=DEPTHS)
        shapes = [tuple(value.shape) for value in method.parameters()]
        assert shapes == 4 * [(6, 4, 1, 1)] + 4 * [(4, 6, 1, 1)]

    @pytest.mark.parametrize(("term", "shape"), [("student_teacher", (6, 4, 1, 1)), ("teacher_student", (4, 6, 1, 1))])
    def test_only_what_the_losses_use_is_learnt(self, term, shape):
        method = made(slow.network(4, 2, 1), slow.network(6, 4, 2), terms=["reconstruction", term])
        assert {tuple(value.shape) for value in method.parameters()} == {shape}

    def test_finding_them_draws_nothing_and_leaves_the_networks_as_they_are(self):
        student, teacher = (tiny.edsr(seed=seed, kind=tiny.Dropping).train() for seed in (1, 2))
        method = made(student, teacher)
        drawn = torch.rand(1)
        torch.manual_seed(3)
        assert torch.equal(drawn, torch.rand(1))
        assert student.training
        assert not method.teacher.training


class TestCuts:
    def test_of_ten_groups_0_3_and_0_7_are_behind_the_third_and_the_seventh(self):
        torch.manual_seed(1)
        teacher = Rcan(2, channels=8, groups=10, blocks=1, reduction=2)
        method = made(tiny.edsr(blocks=4), teacher, depths=(0.3, 0.7))
        assert method.teacher_cuts == (2, 6)
        assert method.student_cuts == (0, 2)

    def test_lie_at_the_same_relative_depth_in_networks_of_two_families(self):
        torch.manual_seed(1)
        teacher = Rcan(2, channels=6, groups=4, blocks=1, reduction=2)
        student = slow.network(4, 2, 1)
        method = made(student, teacher, depths=(0.5,))
        assert (method.student_cuts, method.teacher_cuts) == ((0,), (1,))
        torch.stack(list(method(student, tiny.batch()).values())).sum().backward()
        assert all(value.grad.norm() > 0 for value in student.parameters())

    def test_order_does_not_matter(self):
        student = tiny.edsr(blocks=2)
        losses = [
            made(student, tiny.edsr(seed=2, blocks=4), depths=depths)(student, tiny.batch())
            for depths in (DEPTHS, DEPTHS[::-1])
        ]
        for term in ALL:
            assert torch.equal(losses[0][term], losses[1][term])

    def test_networks_whose_maps_differ_in_size_are_refused_with_both_sizes(self):
        torch.manual_seed(1)
        setting = Setting(tiny.edsr(), frozenset(ALL), 0, Frozen(Halving(2, channels=8, blocks=2)))
        with pytest.raises(InputError, match=r"methods\.crosskd\.depths: 0\.3: .*16 x 16.*8 x 8.*write other depths"):
            build_method(tiny.choice("crosskd"), setting)

    @pytest.mark.parametrize("depths", [(), (0.0,), (1.5,)])
    def test_depths_outside_of_the_network_are_refused(self, depths):
        with pytest.raises(ValueError, match="depths"):
            tiny.choice("crosskd", depths=depths)


class TestCost:
    """The student has 2 stages, cut after the first; the teacher 4, cut after the second."""

    STUDENT_HEAD, STUDENT_TAIL, TEACHER_HEAD, TEACHER_TAIL = [0], [1, "end"], [0, 1], [2, 3, "end"]

    def runs(self, *terms, target="clean"):
        student, teacher = Counted(2, channels=4, blocks=2), Counted(2, channels=4, blocks=4)
        method = made(student, teacher, terms=terms, depths=(0.5,), target=target)
        student.runs, teacher.runs = [], []
        method(student, tiny.batch())
        return student.runs, teacher.runs

    def test_reconstruction_does_not_ask_the_teacher(self):
        assert self.runs("reconstruction") == (self.STUDENT_HEAD + self.STUDENT_TAIL, [])

    def test_logits_run_each_network_once(self):
        expected = self.STUDENT_HEAD + self.STUDENT_TAIL, self.TEACHER_HEAD + self.TEACHER_TAIL
        assert self.runs("logits") == expected

    def test_a_cascade_runs_one_head_and_one_tail(self):
        assert self.runs("student_teacher") == (self.STUDENT_HEAD, self.TEACHER_TAIL)
        assert self.runs("teacher_student") == (self.STUDENT_TAIL, self.TEACHER_HEAD)

    def test_all_of_them_share_the_heads(self):
        student, teacher = self.runs(*ALL)
        assert student == self.STUDENT_HEAD + self.STUDENT_TAIL + self.STUDENT_TAIL
        assert teacher == self.TEACHER_HEAD + self.TEACHER_TAIL + self.TEACHER_TAIL

    def test_the_teachers_image_is_made_once_where_it_is_the_target(self):
        student, teacher = self.runs("student_teacher", target="teacher")
        assert student == self.STUDENT_HEAD
        assert teacher == self.TEACHER_HEAD + self.TEACHER_TAIL + self.TEACHER_TAIL


def test_a_run_of_both_cascades_brings_the_joined_networks_nearer_to_the_clean_image():
    student, teacher = slow.network(4, 2, 1), slow.network(6, 4, 2)
    method = made(student, teacher, terms=CASCADES)
    optimiser = torch.optim.Adam(nn.ModuleList([student, method]).parameters(), lr=1e-3)
    values = []
    for _ in range(20):
        losses = method(student, tiny.batch())
        values.append([loss.item() for loss in losses.values()])
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    assert all(last < first for first, last in zip(values[0], values[-1], strict=True))
