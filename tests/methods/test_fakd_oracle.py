"""FAKD against numbers from the official implementation, Vincent-Hoo/Knowledge-Distillation-for-Super-resolution.

`fakd_oracle.npz` holds what its commit 589d35f gave on closed-form tensors: every type of `feature_transformation.py`
through `Loss`, on three taps of which the last is smaller, with the gradient (every 17th number); and the losses, terms
and gradients of a whole iteration with its RCAN (10 groups) and EDSR (16 and 32 blocks) in float64, features [1, 2, 3].
"""

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.backbones.backbone import Backbone
from components.backbones.edsr import Edsr
from components.backbones.rcan import Rcan
from components.methods.fakd import Fakd
from components.methods.method import Batch, Frozen, Setting
from tests.closed_form import closed_form, fill

pytestmark = pytest.mark.usefixtures("one_thread")

ORACLE = np.load(Path(__file__).with_name("fakd_oracle.npz"))
SHAPES = [(3, 6, 24, 25), (3, 6, 24, 25), (3, 6, 12, 13)]
TERMS = sorted(Fakd.terms - {"reconstruction", "logits"})
POOLED = ("pooled_spatial", "mmd", "rbf")
CASES = [(term, "max", 1) for term in TERMS] + [(term, *pool) for term in POOLED for pool in (("max", 4), ("avg", 3))]


def close(ours: Tensor, expected: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def key(term: str, pool: str, size: int) -> str:
    return f"{term}_{pool}{size}" if term in POOLED else term


def method(terms: set[str], student: Backbone, teacher: Backbone, pool: str = "max", size: int = 1) -> Fakd:
    setting = Setting(student, frozenset(terms), seed=0, teacher=Frozen(teacher))
    return Fakd(setting, pool="max" if pool == "max" else "average", pool_size=size)


def comparison(term: str, pool: str, size: int) -> Callable[[list[Tensor], list[Tensor]], Tensor]:
    compare = method({term}, Edsr(2, 6, 1), Edsr(2, 6, 1), pool, size).compare
    return lambda student, teacher: compare(student, teacher)[term]


def taps(name: str, precision: torch.dtype) -> list[Tensor]:
    return [torch.from_numpy(closed_form(f"{name}{i}", shape)).to(precision) for i, shape in enumerate(SHAPES)]


@pytest.mark.parametrize(("term", "pool", "size"), CASES)
class TestEveryComparison:
    @pytest.mark.parametrize(("precision", "suffix"), [(torch.float32, "f32"), (torch.float64, "f64")])
    def test_is_the_official_one(self, term: str, pool: str, size: int, precision: torch.dtype, suffix: str) -> None:
        loss = comparison(term, pool, size)(taps("student", precision), taps("teacher", precision))
        assert loss.dtype == precision
        assert loss.item() == pytest.approx(ORACLE[f"{key(term, pool, size)}_{suffix}"], rel=1e-5)

    def test_has_the_official_gradient(self, term: str, pool: str, size: int) -> None:
        """In float64: a difference of nearly zero has either sign in float32."""
        student = [tap.requires_grad_() for tap in taps("student", torch.float64)]
        comparison(term, pool, size)(student, taps("teacher", torch.float64)).backward()  # type: ignore[no-untyped-call]
        for index, tap in enumerate(student):
            assert tap.grad is not None
            close(tap.grad.flatten()[::17], ORACLE[f"{key(term, pool, size)}_gradient_{index}"])


def network(family: str, blocks: int) -> Backbone:
    built = Rcan(2, 8, 10, blocks, 4) if family == "rcan" else Edsr(2, 8, blocks)
    fill(built.double(), 0.7)
    return built


@pytest.mark.parametrize("family", ["rcan", "edsr"])
class TestWholeIteration:
    """The official networks work on 0..255."""

    BLOCKS = MappingProxyType({"rcan": (1, 2), "edsr": (16, 32)})
    BATCH = Batch(
        torch.from_numpy(closed_form("degraded", (2, 3, 12, 12), 0, 1)),
        torch.from_numpy(closed_form("clean", (2, 3, 24, 24), 0, 1)),
        torch.arange(2),
        step=1,
    )

    def test_taps_and_compares_as_officially(self, family: str) -> None:
        student, teacher = (network(family, blocks) for blocks in self.BLOCKS[family])
        losses = method(set(Fakd.terms), student, teacher)(student, self.BATCH)
        for term in TERMS:
            assert losses[term].item() == pytest.approx(ORACLE[f"{family}_{term}"], rel=1e-5), term

    def test_has_the_official_loss_and_gradient(self, family: str) -> None:
        student, teacher = (network(family, blocks) for blocks in self.BLOCKS[family])
        losses = method({"reconstruction", "logits", "spatial"}, student, teacher)(student, self.BATCH)
        parts = torch.stack([127.5 * losses["reconstruction"], 127.5 * losses["logits"], 10 * losses["spatial"]])
        np.testing.assert_allclose(parts.detach().numpy(), ORACLE[f"{family}_parts"][:3], rtol=1e-5)
        parts.sum().backward()  # type: ignore[no-untyped-call]
        gradients = {name: value.grad for name, value in student.named_parameters() if value.grad is not None}
        close(gradients["head.0.weight"].flatten(), ORACLE[f"{family}_gradient"])
        close(gradients["tail.1.weight"].flatten()[::5], ORACLE[f"{family}_tail_gradient"])
