"""What every method of the table promises, with its entry of params.yaml."""

import pytest
import torch

from components.backbones import BACKBONES
from components.methods import METHODS, MethodChoice, build_method
from components.methods.method import Batch, Frozen, Setting
from components.run.errors import InputError
from components.run.params import typed
from components.training.loop import Trainee
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

# Losses that train what the method itself registers.
WITHOUT_STUDENT = {("mipkd", "autoencoder")}
LOADERS = ("build", "load_encoder", "load_ensemble", "load_privileged")
TERMS = [(name, term) for name in METHODS for term in sorted(METHODS[name].terms)]


def built(picked, scale=2):
    student = tiny.edsr(scale=scale)
    method = tiny.make_method(picked, student, scale=scale)
    method.train()
    return student, method


def entry(name):
    """As params.yaml has it."""
    return MethodChoice(name=name, **tiny.PARAMS["methods"][name])


def held_out(method):
    """The networks that the method, or a part of it, holds in `Frozen`."""
    holders = (method.setting, *method.modules())
    values = [value for holder in holders for value in vars(holder).values()]
    return [value.network for value in values if isinstance(value, Frozen)]


def frozen_networks(method):
    """These, and what it registers without gradient: teacher, encoder, history network."""
    registered = [child for child in method.children() if any(True for _ in child.parameters())]
    return held_out(method) + [child for child in registered if not any(p.requires_grad for p in child.parameters())]


def losses_of(method, student, batch):
    """The losses of a step: of all its parts, each of which returns at least one."""
    losses = {}
    for part in range(method.parts):
        found = method(student, batch._replace(part=part))
        assert found, f"part {part} has no loss"
        assert losses.keys().isdisjoint(found), "two parts return one loss"
        losses |= found
    return losses


def total(losses, weights):
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


def test_params_have_an_entry_for_every_method():
    assert set(tiny.PARAMS["methods"]) == set(METHODS)


def test_a_setting_without_a_network_that_is_needed_is_an_error_of_ours():
    method = METHODS["logits"](Setting(tiny.edsr(), frozenset({"logits"}), seed=0))
    needs = [lambda: method.teacher, *(getattr(method.setting, name) for name in LOADERS)]
    for need in needs:
        with pytest.raises(AssertionError, match="that was not given in its setting"):
            need()


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_returns_the_losses_that_params_weigh_as_scalars(self, name):
        student, method = built(entry(name))
        losses = losses_of(method, student, tiny.batch())
        assert losses.keys() == entry(name).weights.keys()
        for loss in losses.values():
            assert loss.shape == ()
            assert torch.isfinite(loss)
            assert loss > 0

    def test_gradient_reaches_every_parameter_of_the_student_and_none_of_another_network(self, name):
        picked = tiny.choice(name)
        student, method = built(picked)
        total(losses_of(method, student, tiny.batch()), picked.weights).backward()
        for key, parameter in student.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.abs().sum() > 0, key
        for network in frozen_networks(method):
            assert all(parameter.grad is None for parameter in network.parameters())
            assert not any(parameter.requires_grad for parameter in network.parameters())

    def test_every_part_of_a_step_reaches_all_that_is_trained(self, name):
        """Several processes wait for each other's gradient of every parameter."""
        for picked in (entry(name), tiny.choice(name)):
            student, method = built(picked)
            trained = {key: value for key, value in Trainee(student, method).named_parameters() if value.requires_grad}
            for part in range(method.parts):
                loss = total(method(student, tiny.batch()._replace(part=part)), picked.weights)
                gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
                assert [key for key, value in zip(trained, gradients, strict=True) if value is None] == []

    def test_holds_teacher_and_encoder_out_of_what_is_trained_and_checkpointed(self, name):
        student, method = built(tiny.choice(name))
        trainee = Trainee(student, method)
        held = {value.data_ptr() for network in held_out(method) for value in network.state_dict().values()}
        assert held
        assert held.isdisjoint(value.data_ptr() for value in trainee.parameters())
        assert held.isdisjoint(value.data_ptr() for value in trainee.state_dict().values())

    def test_keeps_every_other_network_in_evaluation_mode(self, name):
        student, method = built(tiny.choice(name))
        Trainee(student, method).train()
        losses_of(method, student, tiny.batch())
        assert student.training
        assert method.training
        assert not any(module.training for network in frozen_networks(method) for module in network.modules())

    def test_is_a_function_of_networks_and_batch_alone(self, name):
        student, method = built(tiny.choice(name))
        first = losses_of(method, student, tiny.batch())
        torch.manual_seed(99)  # what others draw does not matter
        second = losses_of(method, student, tiny.batch())
        _, third = built(tiny.choice(name))
        third = losses_of(third, student, tiny.batch())
        for term, loss in first.items():
            assert torch.equal(loss, second[term])
            assert torch.equal(loss, third[term])

    def test_a_batch_in_another_order_with_its_seeds_has_the_same_loss(self, name):
        student, method = built(tiny.choice(name))
        degraded, clean, seeds, step, _ = tiny.batch(size=4)
        order = torch.tensor([2, 0, 3, 1])
        one = losses_of(method, student, Batch(degraded, clean, seeds, step))
        other = losses_of(method, student, Batch(degraded[order], clean[order], seeds[order], step))
        for term, loss in one.items():
            torch.testing.assert_close(other[term], loss, rtol=1e-5, atol=0)

    @pytest.mark.parametrize("scale", [1, 2, 3, 4])
    def test_works_at_every_scale_or_says_at_the_start_why_not_for_images_of_one_size(self, name, scale):
        """Scale 1 is that of denoising, deblurring and deraining."""
        picked = tiny.choice(name)
        refused = []
        try:
            student, method = built(picked, scale)
        except InputError as refusal:
            refused = [str(refusal)]
        if refused:
            assert scale == 1
            assert refused[0].startswith(f"params.yaml: methods.{name}")
            assert "same size" in refused[0]
            return
        losses = losses_of(method, student, tiny.batch(scale, side=max(8, 16 // scale)))
        total(losses, picked.weights).backward()
        assert all(torch.isfinite(loss) for loss in losses.values())
        assert all(parameter.grad.isfinite().all() for parameter in student.parameters())

    def test_goes_on_bit_exactly_from_its_state(self, name):
        picked = tiny.refreshing(name)

        def steps(trainee, optimiser, numbers):
            for number in numbers:
                losses = {}
                for part in range(trainee.method.parts):
                    found = trainee(tiny.batch(step=number, seed=number)._replace(part=part))
                    total(found, picked.weights).backward()
                    optimiser.step()
                    losses |= found
                optimiser.zero_grad()
                trainee.method.follow(number, trainee.network, trainee.network)
            return losses

        def fresh():
            trainee = Trainee(*built(picked))
            return trainee, torch.optim.SGD(trainee.parameters(), lr=1e-4)

        whole, optimiser = fresh()
        steps(whole, optimiser, range(1, 5))
        kept = {key: value.clone() for key, value in whole.state_dict().items()}
        expected = steps(whole, optimiser, range(5, 8))

        resumed, optimiser = fresh()
        resumed.load_state_dict(kept)
        found = steps(resumed, optimiser, range(5, 8))
        assert all(torch.equal(found[term], loss) for term, loss in expected.items())
        state = resumed.state_dict()
        assert all(torch.equal(state[key], value) for key, value in whole.state_dict().items())

    def test_is_finite_in_bf16(self, name):
        picked = tiny.choice(name)
        student, method = built(picked)
        with torch.autocast("cpu", torch.bfloat16):
            losses = losses_of(method, student, tiny.batch())
        total({term: loss.float() for term, loss in losses.items()}, picked.weights).backward()
        assert all(torch.isfinite(loss) for loss in losses.values())
        assert all(parameter.grad.isfinite().all() for parameter in student.parameters())

    def test_an_unknown_loss_is_refused_with_those_there_are(self, name):
        values = {"name": name, **tiny.PARAMS["methods"][name], "weights": {"reconstrution": 1.0}}
        with pytest.raises(InputError) as raised:
            typed(MethodChoice, values, f"params.yaml: methods.{name}")
        assert f"params.yaml: methods.{name}.weights: unknown name 'reconstrution'" in str(raised.value)
        assert ", ".join(sorted(METHODS[name].terms)) in str(raised.value)

    def test_an_unknown_argument_is_refused(self, name):
        values = {"name": name, **tiny.PARAMS["methods"][name], "unheard_of": 4}
        with pytest.raises(InputError, match=rf"params.yaml: methods.{name}.*'unheard_of'"):
            typed(MethodChoice, values, f"params.yaml: methods.{name}")


@pytest.mark.parametrize(("name", "term"), TERMS)
class TestEveryLoss:
    def test_is_returned_alone_where_it_is_asked_for_alone_and_has_the_same_value(self, name, term):
        student, method = built(tiny.choice(name))
        among_all = losses_of(method, student, tiny.batch())[term]
        _, method = built(tiny.choice(name, [term]))
        losses = losses_of(method, student, tiny.batch())
        assert list(losses) == [term]
        torch.testing.assert_close(losses[term], among_all, rtol=1e-6, atol=0)

    def test_has_a_gradient_of_its_own(self, name, term):
        """FAKD's baseline in DUKD's code has none: it logs, and teaches nothing."""
        student, method = built(tiny.choice(name))
        losses = losses_of(method, student, tiny.batch())
        losses[term].backward()
        learner = method if (name, term) in WITHOUT_STUDENT else student
        assert any(value.grad is not None and value.grad.norm() > 0 for value in learner.parameters())
        assert all(value.grad.isfinite().all() for value in student.parameters() if value.grad is not None)
        assert all(parameter.grad is None for network in frozen_networks(method) for parameter in network.parameters())

    def test_teaches(self, name, term):
        """Steps against its gradient make it smaller."""
        student, method = built(tiny.choice(name, [term]))
        optimiser = torch.optim.Adam(Trainee(student, method).parameters(), lr=1e-3)
        values = []
        for _ in range(15):
            loss = losses_of(method, student, tiny.batch())[term]
            values.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert values[-1] < 0.99 * values[0]


@pytest.mark.parametrize("name", ["fakd", "srkd", "mipkd"])
@pytest.mark.parametrize(("student", "teacher"), [("span", "rlfn"), ("rlfn", "span"), ("efdn", "rlfn")])
def test_efficient_networks_learn_from_each_others_features(student, teacher, name):
    """SPAN with its branches from a teacher, and folded as a teacher."""
    network, taught = (BACKBONES[one](2, channels=8, blocks=3) for one in (student, teacher))
    picked = tiny.choice(name)
    method = build_method(picked, Setting(network, frozenset(picked.weights), 0, Frozen(taught.fold())))
    losses = losses_of(method, network, tiny.batch())
    total(losses, picked.weights).backward()
    assert all(loss > 0 for loss in losses.values())
    assert [key for key, value in network.named_parameters() if value.grad is None] == []
