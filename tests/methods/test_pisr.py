"""What PISR computes, and from where it starts; its values beside the official ones are in test_pisr_oracle.py."""

import math
from dataclasses import replace

import pytest
import torch

from components.auxiliary.privileged_teacher import PrivilegedTeacher
from components.backbones.fsrcnn import Fsrcnn
from components.methods import build_method
from components.methods.method import Frozen
from components.methods.pisr import negative_log_likelihood
from components.run.errors import InputError
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

SPREADS = {"element": (3, 8, 8, 8), "channel": (3, 8, 1, 1), "position": (3, 1, 8, 8), "sample": (3, 1, 1, 1)}
FEATURES = torch.rand(3, 8, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
LOCATION = torch.rand(3, 8, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def built(terms=None, student=None, loaded=None, scale=2, **changes):
    """The method, with a privileged teacher of its own."""
    picked = tiny.choice("pisr", terms, **changes)
    setting = tiny.setting(student or tiny.edsr(scale=scale), picked.weights, scale=scale)
    if loaded is not None:
        setting = replace(setting, load_privileged=lambda: Frozen(loaded))
    return build_method(picked, setting)


def fsrcnn(seed, scale=2):
    torch.manual_seed(seed)
    return Fsrcnn(scale, channels=8, shrunk_channels=4, mappings=2, slopes="shared")


def spread_of(shape):
    return 0.1 + torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


class TestStart:
    def test_is_the_decoder(self):
        student, loaded = tiny.edsr(seed=1), tiny.privileged(seed=6)
        built(student=student, loaded=loaded)
        for name, value in loaded.decoder.state_dict().items():
            assert torch.equal(student.state_dict()[name], value)

    def test_is_the_seeds_network_where_that_is_asked_for(self):
        student = tiny.edsr(seed=1)
        built(student=student, start="random")
        assert all(torch.equal(value, tiny.edsr(seed=1).state_dict()[k]) for k, value in student.state_dict().items())

    def test_alone_can_be_tried_without_the_features(self):
        student, loaded = tiny.edsr(seed=1), tiny.privileged(seed=6)
        method = built(["reconstruction"], student, loaded)
        assert torch.equal(student.head[0].weight, loaded.decoder.head[0].weight)
        assert list(method.parameters()) == []
        assert method.privileged is None

    def test_leaves_the_teacher_alone(self):
        student, loaded = tiny.edsr(seed=1), tiny.privileged(seed=6)
        built(student=student, loaded=loaded)
        with torch.no_grad():
            student.head[0].weight.zero_()
        assert loaded.decoder.head[0].weight.abs().sum() > 0

    @pytest.mark.parametrize("other", [tiny.edsr(blocks=2), tiny.edsr(scale=3), fsrcnn(1)])
    @pytest.mark.parametrize("start", ["decoder", "random"])
    def test_a_decoder_that_is_another_network_is_refused(self, other, start):
        with pytest.raises(InputError, match=r"methods\.pisr\.start: .* run train_privileged_teacher again"):
            built(loaded=PrivilegedTeacher(other, 8, 4), start=start)

    def test_one_of_another_scale_is_refused_though_its_weights_would_fit(self):
        with pytest.raises(InputError, match="another network than the student"):
            built(student=fsrcnn(1, scale=2), loaded=PrivilegedTeacher(fsrcnn(1, scale=3), 8, 4))

    def test_nothing_is_loaded_where_nothing_is_needed(self):
        def refuse():
            raise AssertionError

        picked = tiny.choice("pisr", ["reconstruction"], start="random")
        setting = replace(tiny.setting(tiny.edsr(), picked.weights), load_privileged=refuse)
        assert build_method(picked, setting).privileged is None


class TestHeads:
    @pytest.mark.parametrize(("spread", "shape"), SPREADS.items())
    def test_give_a_location_and_a_positive_spread_of_their_shape(self, spread, shape):
        (head,) = built(spread=spread).heads
        location, spreads = head(torch.randn(3, 8, 8, 8))
        assert location.shape == (3, 8, 8, 8)
        assert spreads.shape == shape
        assert (spreads > 0).all()

    @pytest.mark.parametrize(("spread", "count"), [("element", 12_770), ("channel", 12_770), ("sample", 9_635)])
    def test_of_fsrcnn_have_the_released_number_of_parameters(self, spread, count):
        student, decoder = (Fsrcnn(2, slopes="shared") for _ in range(2))
        method = built(student=student, loaded=PrivilegedTeacher(decoder), spread=spread)
        assert sum(value.numel() for value in method.parameters()) == count

    def test_of_several_taps_are_trained_apart_and_their_losses_add_up(self):
        student, taught = tiny.edsr(blocks=2), PrivilegedTeacher(tiny.edsr(seed=6, blocks=2), 8, 4)
        torch.manual_seed(3)
        both = built(student=student, loaded=taught, depths=[0.5, 1.0])
        assert len(both.heads) == 2
        parts = []
        for place, depth in enumerate([0.5, 1.0]):
            one = built(student=student, loaded=taught, depths=[depth])
            one.heads[0].load_state_dict(both.heads[place].state_dict())
            parts.append(one(student, tiny.batch())["variational"])
        torch.testing.assert_close(both(student, tiny.batch())["variational"], sum(parts), rtol=1e-6, atol=0)


class TestVariational:
    @pytest.mark.parametrize("shape", SPREADS.values())
    def test_is_the_density_of_torch_with_the_papers_scale(self, shape):
        spread = spread_of(shape)
        laplace = -torch.distributions.Laplace(LOCATION, spread).log_prob(FEATURES).mean()
        gauss = -torch.distributions.Normal(LOCATION, spread.sqrt()).log_prob(FEATURES).mean()
        constants = {"laplace": laplace - math.log(2), "gaussian": gauss - math.log(2 * math.pi) / 2}
        for distribution, expected in constants.items():
            ours = negative_log_likelihood(LOCATION, spread, FEATURES, distribution, "paper")
            assert ours.item() == pytest.approx(expected.item(), rel=1e-5)

    @pytest.mark.parametrize("shape", SPREADS.values())
    def test_is_the_density_of_torch_with_the_released_scale(self, shape):
        spread = spread_of(shape)
        laplace = -torch.distributions.Laplace(LOCATION, spread / 10 + 1e-8).log_prob(FEATURES).mean()
        gauss = -torch.distributions.Normal(LOCATION, (spread / 1000 + 1e-8).sqrt()).log_prob(FEATURES).mean()
        for distribution, expected in (("laplace", laplace), ("gaussian", gauss - math.log(2 * math.pi) / 2)):
            ours = negative_log_likelihood(LOCATION, spread, FEATURES, distribution, "released")
            assert ours.item() == pytest.approx(expected.item(), rel=1e-5)

    @pytest.mark.parametrize("distribution", ["laplace", "gaussian"])
    @pytest.mark.parametrize("form", ["released", "paper"])
    def test_survives_a_spread_that_vanishes(self, distribution, form):
        spread = torch.zeros(3, 8, 8, 8, requires_grad=True)
        loss = negative_log_likelihood(LOCATION, spread, FEATURES, distribution, form)
        loss.backward()
        assert loss.isfinite()
        assert spread.grad.isfinite().all()

    @pytest.mark.parametrize("unit", [1.0, 255.0])
    def test_compares_with_what_the_teacher_has_of_the_clean_image_in_units_of_its_range(self, unit):
        student, taught = tiny.edsr(), tiny.privileged()
        method, batch = built(student=student, loaded=taught, feature_range=unit), tiny.batch()
        before = method(student, batch)["variational"]
        assert not torch.equal(method(student, batch._replace(clean=batch.clean.flip(0)))["variational"], before)
        _, (features,) = taught.forward_tapped(batch.clean, [1.0])
        _, (ours,) = student.forward_tapped(batch.degraded, [1.0])
        expected = negative_log_likelihood(*method.heads[0](ours / unit), features / unit, "laplace", "released")
        torch.testing.assert_close(before, expected, rtol=1e-6, atol=0)


class TestCost:
    def calls(self, terms):
        student, taught = tiny.edsr(), tiny.privileged()
        method = built(terms, student=student, loaded=taught)
        found = []
        watched = {"tail": student.tail, "encoder": taught.encoder, "decoder's tail": taught.decoder.tail}
        for name, module in watched.items():
            module.register_forward_hook(lambda _, __, output, name=name: found.append((name, output.requires_grad)))
        method(student, tiny.batch())
        return found

    def test_the_teacher_is_run_up_to_the_tap_and_without_gradient(self):
        assert self.calls(None) == [("encoder", False), ("tail", True)]

    def test_of_one_loss_is_not_paid_for_the_other(self):
        assert self.calls(["variational"]) == [("encoder", False)]
        assert self.calls(["reconstruction"]) == [("tail", True)]


class TestWrongParams:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"depths": []}, "depths"),
            ({"depths": [1.5]}, "depths"),
            ({"distribution": "cauchy"}, "distribution.*'laplace' or 'gaussian'"),
            ({"spread": "C"}, "spread.*'element', 'channel', 'position' or 'sample'"),
            ({"form": "official"}, "form.*'released' or 'paper'"),
            ({"feature_range": 0}, "feature_range"),
            ({"start": "teacher"}, "start.*'decoder' or 'random'"),
        ],
    )
    def test_are_refused_with_what_there_is(self, change, said):
        with pytest.raises((InputError, ValueError), match=said):
            tiny.choice("pisr", **change)
