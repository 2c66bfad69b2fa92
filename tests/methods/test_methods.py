"""What every method of the table promises, with its entry of params.yaml."""

import pytest
import torch

from components.methods import METHODS, MethodChoice
from components.methods.method import Batch, Frozen
from components.run.errors import InputError
from components.run.params import typed
from components.training.loop import Trainee
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

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
    """The networks that the method holds in `Frozen`."""
    values = (*vars(method).values(), *vars(method.setting).values())
    return [value.network for value in values if isinstance(value, Frozen)]


def frozen_networks(method):
    """These, and what it registers without gradient: teacher, encoder, history network."""
    registered = [child for child in method.children() if not any(value.requires_grad for value in child.parameters())]
    return held_out(method) + registered


def total(losses, weights):
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


def test_params_have_an_entry_for_every_method():
    assert set(tiny.PARAMS["methods"]) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_returns_the_losses_that_params_weigh_as_scalars(self, name):
        student, method = built(entry(name))
        losses = method(student, tiny.batch())
        assert losses.keys() == entry(name).weights.keys()
        for loss in losses.values():
            assert loss.shape == ()
            assert torch.isfinite(loss)
            assert loss > 0

    def test_gradient_reaches_every_parameter_of_the_student_and_none_of_another_network(self, name):
        picked = tiny.choice(name)
        student, method = built(picked)
        total(method(student, tiny.batch()), picked.weights).backward()
        for key, parameter in student.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.abs().sum() > 0, key
        for network in frozen_networks(method):
            assert all(parameter.grad is None for parameter in network.parameters())
            assert not any(parameter.requires_grad for parameter in network.parameters())

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
        method(student, tiny.batch())
        assert student.training
        assert method.training
        assert not any(module.training for network in frozen_networks(method) for module in network.modules())

    def test_is_a_function_of_networks_and_batch_alone(self, name):
        student, method = built(tiny.choice(name))
        first = method(student, tiny.batch())
        torch.manual_seed(99)  # what others draw does not matter
        second = method(student, tiny.batch())
        _, third = built(tiny.choice(name))
        third = third(student, tiny.batch())
        for term, loss in first.items():
            assert torch.equal(loss, second[term])
            assert torch.equal(loss, third[term])

    def test_a_batch_in_another_order_with_its_seeds_has_the_same_loss(self, name):
        student, method = built(tiny.choice(name))
        degraded, clean, seeds, step, _ = tiny.batch(size=4)
        order = torch.tensor([2, 0, 3, 1])
        one = method(student, Batch(degraded, clean, seeds, step))
        other = method(student, Batch(degraded[order], clean[order], seeds[order], step))
        for term, loss in one.items():
            torch.testing.assert_close(other[term], loss, rtol=1e-5, atol=0)

    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_works_at_every_scale(self, name, scale):
        picked = tiny.choice(name)
        student, method = built(picked, scale)
        losses = method(student, tiny.batch(scale))
        total(losses, picked.weights).backward()
        assert all(torch.isfinite(loss) for loss in losses.values())
        assert all(parameter.grad.isfinite().all() for parameter in student.parameters())

    def test_goes_on_bit_exactly_from_its_state(self, name):
        picked = tiny.refreshing(name)

        def steps(trainee, optimiser, numbers):
            for number in numbers:
                losses = trainee(tiny.batch(step=number, seed=number))
                optimiser.zero_grad()
                total(losses, picked.weights).backward()
                optimiser.step()
                trainee.method.follow(number, trainee.network, trainee.network)
            return losses

        def fresh():
            trainee = Trainee(*built(picked))
            return trainee, torch.optim.SGD(trainee.network.parameters(), lr=1e-4)

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
            losses = method(student, tiny.batch())
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
        values = {"name": name, **tiny.PARAMS["methods"][name], "temperature": 4}
        with pytest.raises(InputError, match=rf"params.yaml: methods.{name}.*'temperature'"):
            typed(MethodChoice, values, f"params.yaml: methods.{name}")


@pytest.mark.parametrize(("name", "term"), TERMS)
class TestEveryLoss:
    def test_is_returned_alone_where_it_is_asked_for_alone_and_has_the_same_value(self, name, term):
        student, method = built(tiny.choice(name))
        among_all = method(student, tiny.batch())[term]
        _, method = built(tiny.choice(name, [term]))
        losses = method(student, tiny.batch())
        assert list(losses) == [term]
        torch.testing.assert_close(losses[term], among_all, rtol=1e-6, atol=0)

    def test_has_a_gradient_of_its_own(self, name, term):
        """FAKD's own baseline in DUKD's code has none (methods.md 3.6): it logs, and teaches nothing."""
        student, method = built(tiny.choice(name))
        losses = method(student, tiny.batch())
        losses[term].backward()
        norms = torch.stack([parameter.grad.norm() for parameter in student.parameters()])
        assert (norms > 0).all()
        assert all(parameter.grad is None for network in frozen_networks(method) for parameter in network.parameters())

    def test_teaches(self, name, term):
        """Steps against its gradient make it smaller."""
        student, method = built(tiny.choice(name, [term]))
        optimiser = torch.optim.Adam(student.parameters(), lr=1e-3)
        values = []
        for _ in range(15):
            loss = method(student, tiny.batch())[term]
            values.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert values[-1] < 0.99 * values[0]
