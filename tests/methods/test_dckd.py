"""What DCKD computes, and how often; its values beside the official ones are in test_dckd_oracle.py."""

import itertools
from dataclasses import replace

import pytest
import torch

from components.auxiliary.vqgan import VqganEncoder
from components.methods import METHODS, MethodChoice
from components.methods.parts.augmentations import InvertibleAugmentation, draw_augmentation
from components.methods.parts.contrast import contrastive
from components.run.errors import InputError
from components.run.params import build, typed
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

ENTRY = tiny.PARAMS["methods"]["dckd"]
NEGATIVES = ENTRY["negatives"]
FLAGS = torch.tensor(list(itertools.product([False, True], repeat=4)))


class Calls:
    """Counts the calls of modules, and keeps the batch size of each and whether it had a gradient."""

    def __init__(self, **modules):
        self.sizes = {name: [] for name in modules}
        self.with_gradient = {name: [] for name in modules}
        for name, module in modules.items():
            module.register_forward_hook(self.hook(name))

    def hook(self, name):
        def count(_, inputs, output):
            self.sizes[name].append(len(inputs[0]))
            self.with_gradient[name].append(output.requires_grad)

        return count


def counted(terms=None, size=3, **changes):
    """One forward pass of DCKD with these terms, and what was called in it."""
    student = tiny.edsr()
    method = tiny.make_method(tiny.choice("dckd", terms, **changes), student)
    modules = {"student": student, "teacher": method.setting.teacher.network}
    if method.contrast.history is not None:
        modules["history"] = method.contrast.history
    if method.contrast.contrast is not None:
        network = method.contrast.contrast.encoder.network
        modules |= {"encoder": network.encoder.conv_in, "latent": network.encoder.conv_out}
    calls = Calls(**modules)
    method(student, tiny.batch(size=size))
    return calls


class TestInvertibleAugmentation:
    def test_each_of_the_16_is_undone_exactly(self):
        # Sixteenths of [0, 1]: 1 - (1 - x) loses no bit.
        images = torch.randint(17, (16, 3, 6, 6), generator=torch.Generator().manual_seed(1)) / 16
        augmentation = InvertibleAugmentation(*FLAGS.unbind(1))
        assert torch.equal(augmentation.undo(augmentation.apply(images)), images)
        assert (
            len({tuple(image.flatten().tolist()) for image in augmentation.apply(images[:1].expand(16, -1, -1, -1))})
            == 16
        )

    def test_each_of_the_four_is_drawn_for_each_sample_with_its_probability(self):
        generators = [torch.Generator().manual_seed(seed) for seed in range(4000)]
        flags = torch.stack(draw_augmentation(generators, 0.3, torch.device("cpu"))).float()
        assert flags.shape == (4, 4000)
        assert flags.mean(1).tolist() == pytest.approx([0.3] * 4, abs=0.03)
        assert torch.corrcoef(flags).fill_diagonal_(0).abs().max() < 0.06

    @pytest.mark.parametrize("probability", [0.0, 1.0])
    def test_are_never_or_always_drawn(self, probability):
        generators = [torch.Generator().manual_seed(seed) for seed in range(8)]
        flags = torch.stack(draw_augmentation(generators, probability, torch.device("cpu")))
        assert flags.float().unique().tolist() == [probability]


class TestContrast:
    """Acceptance tests 3 of methods.md, section 12."""

    ANCHOR, POSITIVE, NEGATIVE = (
        [torch.rand(2, 4, side, side, generator=torch.Generator().manual_seed(10 * side + which)) for side in (8, 4)]
        for which in range(3)
    )
    WEIGHTS = (0.25, 1.0)

    def test_the_same_negatives_twice_halve_it(self):
        once = contrastive(self.ANCHOR, self.POSITIVE, [self.NEGATIVE], self.WEIGHTS)
        twice = contrastive(self.ANCHOR, self.POSITIVE, [self.NEGATIVE] * 2, self.WEIGHTS)
        torch.testing.assert_close(twice, once / 2, rtol=1e-5, atol=0)

    def test_is_zero_at_the_teacher_and_falls_on_the_way(self):
        values = []
        for share in (0.0, 0.5, 1.0):
            anchor = [torch.lerp(ours, theirs, share) for ours, theirs in zip(self.ANCHOR, self.POSITIVE, strict=True)]
            values.append(contrastive(anchor, self.POSITIVE, [self.NEGATIVE], self.WEIGHTS).item())
        assert values[0] > values[1] > values[2] == 0


class TestCost:
    """Each network is asked no more than it must be."""

    def test_one_pass_of_the_encoder_serves_features_and_codes(self):
        calls = counted(size=3)
        negatives = 3 * (NEGATIVES["degraded"] + NEGATIVES["clean"])
        assert calls.sizes["encoder"] == [3, 3, negatives]
        # Only the student's features have a gradient, and nobody computes the negatives' latent.
        assert calls.with_gradient["encoder"] == [True, False, False]
        assert calls.sizes["latent"] == [3, 3]

    def test_the_negatives_go_through_the_history_network_at_once_and_without_gradient(self):
        calls = counted(size=3)
        assert calls.sizes["history"] == [15]
        assert calls.with_gradient["history"] == [False]

    @pytest.mark.parametrize(("degraded", "clean"), [(5, False), (1, True)])
    def test_there_are_as_many_negatives_as_params_say(self, degraded, clean):
        calls = counted(size=3, negatives=NEGATIVES | {"degraded": degraded, "clean": clean})
        assert calls.sizes["history"] == [3 * (degraded + clean)]

    def test_the_student_is_asked_once(self):
        assert counted(size=3).sizes["student"] == [3]

    def test_the_teacher_sees_changed_copies_in_the_same_pass_and_without_gradient(self):
        calls = counted(size=3)
        assert calls.sizes["teacher"] == [6]
        assert calls.with_gradient["teacher"] == [False]

    def test_without_label_consistency_the_teacher_sees_the_batch_alone(self):
        assert counted(["logits", "contrastive", "codes"], size=3).sizes["teacher"] == [3]

    def test_without_the_contrast_there_is_no_history_network_and_without_the_codes_no_latent(self):
        codes = counted(["codes"], size=3)
        assert "history" not in codes.sizes
        assert codes.sizes["latent"] == codes.sizes["encoder"] == [3, 3]
        contrast = counted(["contrastive"], size=3)
        assert contrast.sizes["latent"] == []

    def test_without_both_the_encoder_is_not_even_loaded(self):
        def refuse():
            raise AssertionError

        setting = tiny.setting(tiny.edsr(), ["reconstruction", "logits", "label_consistency"])
        method = build("method", METHODS, tiny.choice("dckd"), replace(setting, load_encoder=refuse))
        assert (method.contrast.contrast, method.contrast.history) == (None, None)


class TestHistoryNetwork:
    def follow(self, source, momentum, steps=(2,)):
        """Start, student, average and history after a refresh at step 2; each network is filled with one number."""
        history = ENTRY["history"] | {"source": source, "momentum": momentum, "intervals": [2], "phase": 100}
        student, other, average = (filled(value) for value in (1.0, 2.0, 4.0))
        method = tiny.make_method(tiny.choice("dckd", history=history), student)
        for step in steps:
            method.follow(step, other, average)
        return {value.item() for parameter in method.contrast.history.parameters() for value in parameter.unique()}

    def test_begins_as_the_student(self):
        assert self.follow("ema", 0.1, steps=()) == {1.0}

    def test_is_left_alone_between_refreshes(self):
        assert self.follow("ema", 0.1, steps=(1, 3, 5)) == {1.0}

    @pytest.mark.parametrize(("source", "value"), [("ema", 4.0), ("student", 2.0)])
    def test_takes_its_share_of_the_source(self, source, value):
        """Equation 4: alpha of the old, the rest of the new."""
        (found,) = self.follow(source, 0.1)
        assert found == pytest.approx(0.1 * 1.0 + 0.9 * value, rel=1e-6)
        (found,) = self.follow(source, 0.75)
        assert found == pytest.approx(0.75 * 1.0 + 0.25 * value, rel=1e-6)

    def test_keeps_a_part_of_a_part_at_the_next_refresh(self):
        (found,) = self.follow("student", 0.1, steps=(2, 3, 4))
        assert found == pytest.approx(0.1 * (0.1 * 1.0 + 0.9 * 2.0) + 0.9 * 2.0, rel=1e-6)

    def test_is_a_copy(self):
        student = tiny.edsr()
        method = tiny.make_method(tiny.choice("dckd"), student)
        with torch.no_grad():
            student.head[0].weight.zero_()
        assert method.contrast.history.head[0].weight.abs().sum() > 0

    def test_its_buffers_are_the_students(self):
        class Counting(type(tiny.edsr())):
            def __init__(self):
                super().__init__(2, channels=8, blocks=1)
                self.register_buffer("count", torch.zeros(()))

        student, current = Counting(), Counting()
        history = ENTRY["history"] | {"source": "student", "intervals": [1]}
        method = tiny.make_method(tiny.choice("dckd", history=history), student)
        current.count += 5
        method.follow(1, current, current)
        assert method.contrast.history.count == 5


class TestDraws:
    @staticmethod
    def negatives(gray, *steps):
        """The inputs of the history network for the same samples in these steps, the clean one apart."""
        student = tiny.edsr()
        bank = {"blur": 0, "resize": 0, "noise": 1, "gray": gray}
        method = tiny.make_method(tiny.choice("dckd", ["contrastive"], negatives=NEGATIVES | {"bank": bank}), student)
        seen = []
        method.contrast.history.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].chunk(5)))
        for step in steps:
            method(student, tiny.batch(step=step))
        return [(clean, torch.stack(degraded)) for clean, *degraded in seen]

    def test_the_clean_input_comes_first_as_it_is(self):
        ((clean, _),) = self.negatives(0.5, 1)
        assert torch.equal(clean, tiny.batch().degraded)

    @pytest.mark.parametrize("gray", [0, 1])
    def test_the_noises_of_one_sample_are_unrelated(self, gray):
        ((clean, degraded),) = self.negatives(gray, 1)
        noises = (degraded - clean)[:, :, 0].flatten(2)
        for sample in range(3):
            assert torch.corrcoef(noises[:, sample]).fill_diagonal_(0).abs().max() < 0.6

    def test_are_the_same_in_the_same_step(self):
        (_, first), (_, second) = self.negatives(0.5, 1, 1)
        assert torch.equal(first, second)

    def test_the_gray_field_of_the_batch_is_another_in_every_step(self):
        (_, first), (_, second) = self.negatives(1, 1, 2)
        assert not torch.equal(first, second)
        # The rest hangs on the samples' own seeds.
        (_, first), (_, second) = self.negatives(0, 1, 2)
        assert torch.equal(first, second)

    def test_the_teacher_is_right_about_changed_copies_if_it_commutes_with_the_changes(self):
        """A teacher that enlarges by repeating gives the label itself back, so both losses are one."""

        class Repeating(torch.nn.Module):
            def forward(self, image):
                return image.repeat_interleave(2, -1).repeat_interleave(2, -2)

        student = tiny.edsr()
        method = tiny.make_method(tiny.choice("dckd", ["logits", "label_consistency"]), student)
        method.setting.teacher.network = Repeating()
        losses = method(student, tiny.batch(size=16))
        torch.testing.assert_close(losses["label_consistency"], losses["logits"], rtol=1e-5, atol=0)


class TestParams:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"history": ENTRY["history"] | {"intervals": [0]}}, "history.intervals.0"),
            ({"history": ENTRY["history"] | {"intervals": []}}, "history.intervals"),
            ({"history": ENTRY["history"] | {"momentum": 1.5}}, "history.momentum"),
            ({"history": ENTRY["history"] | {"source": "teacher"}}, "'ema' or 'student'"),
            ({"history": ENTRY["history"] | {"phase": 0}}, "history.phase"),
            ({"negatives": NEGATIVES | {"degraded": 0}}, "at least one negative must be degraded"),
            (
                {"negatives": NEGATIVES | {"bank": dict.fromkeys(["blur", "resize", "noise", "gray"], 0)}},
                "degraded",
            ),
            ({"negatives": NEGATIVES | {"bank": NEGATIVES["bank"] | {"noise": 2}}}, "bank.noise"),
            ({"cross_entropy": "relaesed"}, "'released' or 'exact'"),
            ({"encoder_range": "unit"}, "'zero_one', 'minus_one_one' or 'zero_255'"),
        ],
    )
    def test_a_wrong_value_is_refused_by_its_key(self, changes, said):
        with pytest.raises(InputError) as raised:
            typed(MethodChoice, {"name": "dckd", **ENTRY, **changes}, "params.yaml: methods.dckd")
        assert str(raised.value).startswith("params.yaml: methods.dckd")
        assert said in str(raised.value)

    def test_as_many_tap_weights_as_the_encoder_has_levels(self):
        with pytest.raises(InputError, match=r"methods\.dckd\.tap_weights: 2 weights, but the encoder has 5 levels"):
            tiny.make_method(tiny.choice("dckd", tap_weights=[1.0, 1.0]), tiny.edsr())

    def test_the_range_is_what_the_encoder_is_fed(self):
        seen = {}
        for name in ("zero_one", "minus_one_one"):
            student = tiny.edsr()
            method = tiny.make_method(tiny.choice("dckd", ["codes"], encoder_range=name), student)
            assert isinstance(method.contrast.contrast.encoder.network, VqganEncoder)
            fed = []
            method.contrast.contrast.encoder.network.encoder.conv_in.register_forward_pre_hook(
                lambda _, x, fed=fed: fed.append(x[0])
            )
            method(student, tiny.batch())
            seen[name] = fed
        for zero_one, other in zip(*seen.values(), strict=True):
            torch.testing.assert_close(other, 2 * zero_one - 1)


def filled(value):
    network = tiny.edsr()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)
    return network
