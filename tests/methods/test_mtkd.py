"""What MTKD compares with what; its wavelets are in test_mtkd_oracle.py, the ensemble in tests/backbones."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from components.methods import MethodChoice
from components.methods.method import Frozen
from components.methods.mtkd import Mtkd
from components.methods.parts.wavelets import wavelet_distance
from components.run.errors import InputError
from components.run.params import typed
from tests.training import tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def losses(student, terms=None, batch=None, **changes):
    method = tiny.make_method(tiny.choice("mtkd", terms, **changes), student)
    return method(student, batch or tiny.batch())


def test_values_are_those_of_the_formulas():
    student, batch = tiny.edsr(), tiny.batch()
    restored, label = student(batch.degraded), tiny.ensemble().eval()(batch.degraded)
    found = losses(student)
    torch.testing.assert_close(found["reconstruction"], F.l1_loss(restored, batch.clean))
    torch.testing.assert_close(found["image"], F.l1_loss(restored, label))
    torch.testing.assert_close(found["wavelet"], wavelet_distance(restored, label, 1))


def test_levels_are_params():
    student = tiny.edsr()
    values = [losses(student, levels=levels)["wavelet"].item() for levels in (1, 2)]
    assert values[0] < values[1], "three bands more"
    wrong = {"name": "mtkd", **tiny.PARAMS["methods"]["mtkd"], "levels": 0}
    with pytest.raises(InputError, match=r"methods\.mtkd\.levels"):
        typed(MethodChoice, wrong, "params.yaml: methods.mtkd")


def test_label_is_the_ensembles_and_not_the_teachers():
    student = tiny.edsr()
    setting = tiny.setting(student, {"image"})
    other = replace(setting, load_ensemble=lambda: Frozen(tiny.ensemble(seed=8)))
    batch = tiny.batch()
    assert Mtkd(setting)(student, batch)["image"] != Mtkd(other)(student, batch)["image"]
    without_teacher = replace(setting, teacher=None)
    assert Mtkd(without_teacher)(student, batch)["image"] == Mtkd(setting)(student, batch)["image"]


def test_an_ensemble_that_no_loss_needs_is_not_loaded():
    def loaded():
        raise AssertionError

    student = tiny.edsr()
    Mtkd(replace(tiny.setting(student, {"reconstruction"}), load_ensemble=loaded))(student, tiny.batch())
