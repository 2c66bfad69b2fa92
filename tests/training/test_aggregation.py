import pytest
import torch
import torch.nn.functional as F

from components.methods.method import Frozen
from components.training.aggregation import Aggregation
from components.training.loop import Trainee
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def test_compares_what_is_made_of_the_teachers_images_with_the_clean_one():
    teacher_ensemble, network, batch = tiny.teacher_ensemble().eval(), tiny.aggregator().eval(), tiny.batch()
    losses = Aggregation(Frozen(teacher_ensemble))(network, batch)
    assert losses.keys() == Aggregation.terms
    rcan, teacher = teacher_ensemble.teachers["rcan"], teacher_ensemble.teachers["teacher"]
    expected = F.l1_loss(network([rcan(batch.degraded), teacher(batch.degraded)]), batch.clean)
    torch.testing.assert_close(losses["reconstruction"], expected)


def test_teaches_the_aggregator_alone():
    teacher_ensemble, network = tiny.teacher_ensemble(), tiny.aggregator()
    trainee = Trainee(network, Aggregation(Frozen(teacher_ensemble))).train()
    trainee(tiny.batch())["reconstruction"].backward()
    assert all(value.grad.abs().sum() > 0 for value in network.parameters())
    assert all(value.grad is None for value in teacher_ensemble.parameters())
    assert not any(module.training for module in teacher_ensemble.modules())
    assert {key.partition(".")[0] for key in trainee.state_dict()} == {"network"}
