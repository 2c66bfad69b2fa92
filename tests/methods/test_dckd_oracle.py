"""DCKD against numbers from the official implementation, super-SSS/DCKD, commit 66fe400.

`dckd_oracle.npz` holds what it gave on closed-form tensors: `ContrasLoss.L1_forward`, `CELoss` after
`VectorQuantizerD`, `noising`, the condition of the history refresh, and the losses and weights of five whole
`DCKDModel.optimize_parameters` in float64 without random draws (no degradation, every symmetry applied; RCAN student,
teacher and history, SGD). The blurred images are of `kornia.filters.gaussian_blur2d` 0.9.0, which it calls.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kstest, uniform
from torch import Tensor

from components.auxiliary.vqgan import VqganEncoder
from components.backbones.rcan import Rcan
from components.methods.dckd import Dckd
from components.methods.method import Batch, Frozen, Setting
from components.methods.parts import degradations
from components.methods.parts.augmentations import InvertibleAugmentation
from components.methods.parts.contrast import contrastive
from components.methods.parts.degradations import Bank, degrade
from components.methods.parts.dynamic_contrast import History, Negatives, code_cross_entropy, is_refresh
from tests.closed_form import closed_form, fill

ORACLE = np.load(Path(__file__).with_name("dckd_oracle.npz"))
SHAPES = [(2, 4, 16, 24), (2, 4, 8, 12), (2, 8, 4, 6), (2, 8, 2, 3), (2, 16, 1, 2)]
WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
INTERVALS = (1000, 2000, 3000)
PRECISIONS = [(torch.float32, "f32"), (torch.float64, "f64")]


def taps(name: str, precision: torch.dtype) -> list[Tensor]:
    return [torch.from_numpy(closed_form(f"{name}{i}", shape)).to(precision) for i, shape in enumerate(SHAPES)]


def close(ours: Tensor, name: str, rtol: float = 1e-5) -> None:
    expected = ORACLE[name]
    np.testing.assert_allclose(ours.detach().double().numpy(), expected, rtol=rtol, atol=rtol * np.abs(expected).max())


@pytest.mark.parametrize(("precision", "suffix"), PRECISIONS)
class TestContrastive:
    """The contrast of five levels with five negatives."""

    def test_is_the_official_loss_with_its_gradient(self, precision: torch.dtype, suffix: str) -> None:
        anchor = [tap.requires_grad_() for tap in taps("anchor", precision)]
        negatives = [taps(f"negative{j}_", precision) for j in range(5)]
        loss = contrastive(anchor, taps("positive", precision), negatives, WEIGHTS)
        loss.backward()  # type: ignore[no-untyped-call]
        close(loss, f"contrastive_{suffix}")
        for level, tap in enumerate(anchor):
            assert tap.grad is not None
            close(tap.grad, f"contrastive_gradient_{level}_{suffix}")

    def test_each_level_is_the_official_ratio(self, precision: torch.dtype, suffix: str) -> None:
        anchor, positive = taps("anchor", precision), taps("positive", precision)
        negatives = [taps(f"negative{j}_", precision) for j in range(5)]
        ratios = [
            contrastive(anchor[i : i + 1], positive[i : i + 1], [taps_[i : i + 1] for taps_ in negatives], (1.0,))
            for i in range(5)
        ]
        close(torch.stack(ratios), f"contrastive_per_tap_{suffix}")

    def test_one_negative(self, precision: torch.dtype, suffix: str) -> None:
        loss = contrastive(
            taps("anchor", precision), taps("positive", precision), [taps("negative0_", precision)], WEIGHTS
        )
        close(loss, f"contrastive_single_{suffix}")

    def test_is_zero_for_a_student_that_equals_its_teacher(self, precision: torch.dtype, suffix: str) -> None:
        anchor = taps("anchor", precision)
        loss = contrastive(anchor, anchor, [taps("negative0_", precision)], WEIGHTS)
        assert loss.item() == ORACLE[f"contrastive_same_{suffix}"] == 0

    def test_only_the_official_constant_is_left_where_negatives_collapse(
        self, precision: torch.dtype, suffix: str
    ) -> None:
        anchor = taps("anchor", precision)
        close(
            contrastive(anchor, taps("positive", precision), [anchor] * 5, WEIGHTS), f"contrastive_collapsed_{suffix}"
        )


def distances(latent: Tensor) -> Tensor:
    """Squared distances to closed-form codes, by differences."""
    codes = torch.from_numpy(0.5 * closed_form("codes", (32, 8))).to(latent)
    tokens = latent.permute(0, 2, 3, 1).reshape(-1, 1, 8)
    return (tokens - codes).pow(2).sum(-1)


def latent(who: str, precision: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(closed_form(f"{who}_latent", (2, 8, 4, 6))).to(precision)


@pytest.mark.parametrize(("precision", "suffix"), PRECISIONS)
def test_released_cross_entropy_is_the_official_loss_with_its_gradient(precision: torch.dtype, suffix: str) -> None:
    student = latent("student", precision).requires_grad_()
    teacher = distances(latent("teacher", precision))
    loss = code_cross_entropy(distances(student), teacher, "released")
    loss.backward()  # type: ignore[no-untyped-call]
    close(loss, f"released_{suffix}")
    assert student.grad is not None
    close(student.grad, f"released_gradient_{suffix}", rtol=1e-5 if suffix == "f64" else 1e-4)
    close(code_cross_entropy(teacher, teacher, "released"), f"released_same_{suffix}")


def test_student_probabilities_are_the_official_ones() -> None:
    close(torch.softmax(-distances(latent("student")), dim=1), "probabilities_student_f64")


def test_exact_cross_entropy_is_that_of_the_official_probabilities() -> None:
    """The official code has no such loss; its probabilities have this cross entropy."""
    teacher = torch.softmax(-distances(latent("teacher")), dim=1).numpy()
    expected = -(teacher * np.log(ORACLE["probabilities_student_f64"])).sum(1).mean()
    ours = code_cross_entropy(distances(latent("student")), distances(latent("teacher")), "exact")
    assert ours.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("student", "expected"), [(0, 5.9331), (1, 6.9331)])
def test_released_cross_entropy_of_sure_codes_lies_in_the_window_of_the_double_softmax(
    student: int, expected: float
) -> None:
    sure = 1e4 * (1 - F.one_hot(torch.tensor([0, 1]), 1024)).float()
    loss = code_cross_entropy(sure[student : student + 1], sure[:1], "released")
    assert loss.item() == pytest.approx(expected, abs=1e-4)


def test_exact_cross_entropy_of_far_codes_stays_finite() -> None:
    sure = 1e4 * (1 - F.one_hot(torch.tensor([0, 1]), 1024)).float()
    assert code_cross_entropy(sure[:1], sure[1:], "exact").item() == pytest.approx(1e4)


def test_history_is_refreshed_at_the_official_steps() -> None:
    official = ORACLE["refresh_steps_300k"].tolist()
    assert [step for step in range(1, 300_001) if is_refresh(step, INTERVALS, 100_000)] == official
    assert sum(step <= 250_000 for step in official) == 167


def test_last_interval_holds_on_where_the_official_list_ends() -> None:
    refreshed = [step for step in range(300_001, 310_001) if is_refresh(step, INTERVALS, 100_000)]
    assert refreshed == [303_000, 306_000, 309_000]


def test_augmentations_are_applied_and_undone_as_officially() -> None:
    augmentation = InvertibleAugmentation(*torch.from_numpy(ORACLE["symmetry_flags"]).unbind(1))
    changed = augmentation.apply(torch.from_numpy(closed_form("symmetry_input", (16, 3, 3, 3), 0, 1)).float())
    undone = augmentation.undo(torch.from_numpy(closed_form("symmetry_output", (16, 3, 6, 6), 0, 1)).float())
    assert torch.equal(changed, torch.from_numpy(ORACLE["symmetry_applied"]))
    assert torch.equal(undone, torch.from_numpy(ORACLE["symmetry_undone"]))


@pytest.mark.parametrize(
    ("sides", "sigmas", "name"), [((3, 7), (0.5, 1.7), "blur_3x7"), ((11, 5), (1.9, 0.6), "blur_11x5")]
)
def test_blur_is_that_of_the_library_the_official_code_calls(
    sides: tuple[int, int], sigmas: tuple[float, float], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Height first; reflected at the border without repeating the edge."""
    drawn_sides, drawn_sigmas = iter(sides), iter(sigmas)
    monkeypatch.setattr(degradations, "_pick", lambda *_: next(drawn_sides))
    monkeypatch.setattr(degradations, "_uniform", lambda *_: next(drawn_sigmas))
    images = torch.from_numpy(closed_form("blurred", (2, 3, 14, 13), 0, 1))
    close(degradations._blur(images, torch.Generator()), name)


class TestNoise:
    """Facts of `random_add_gaussian_noise_pt(sigma_range=[1, 30], clip=True, rounds=False)`."""

    MIDDLE = torch.full((2048, 3, 16, 16), 0.5)
    SEEDS = torch.arange(2048)

    def added(self, gray: float, copy: int = 0) -> Tensor:
        bank = Bank(blur=0, resize=0, noise=1, gray=gray)
        return degrade(self.MIDDLE, bank, self.SEEDS, 0, 1, copy) - self.MIDDLE

    @pytest.mark.parametrize("copy", range(4))
    def test_strength_is_uniform_from_1_to_30_levels_and_of_one_sample(self, copy: int) -> None:
        strengths = self.added(0, copy).flatten(1).std(1) * 255
        # 0.043 is passed by one in a thousand sets of 2048 uniform numbers; the rest is the error of a deviation.
        assert kstest(strengths.numpy(), uniform(1, 29).cdf).statistic < 0.05
        assert strengths.min() > 0.85

    def test_colour_noise_differs_between_channels_and_samples(self) -> None:
        noise = self.added(0)
        assert torch.corrcoef(noise.transpose(0, 1).flatten(1)).fill_diagonal_(0).abs().max() < 0.02
        assert torch.corrcoef(noise[:32].flatten(1)).fill_diagonal_(0).abs().max() < 0.2

    def test_gray_noise_is_one_field_for_all_channels_and_samples_times_each_strength(self) -> None:
        noise = self.added(1)
        assert torch.equal(noise[:, 0], noise[:, 1])
        assert torch.equal(noise[:, 0], noise[:, 2])
        assert torch.corrcoef(noise[:, 0].flatten(1)).min() > 0.999

    def test_the_next_negative_has_another_field(self) -> None:
        fields = torch.stack([self.added(1, index)[0, 0].flatten() for index in range(4)])
        assert torch.corrcoef(fields).fill_diagonal_(0).abs().max() < 0.25

    def test_each_sample_is_gray_with_its_probability(self) -> None:
        noise = self.added(0.25)
        gray = (noise[:, 0] == noise[:, 1]).flatten(1).all(1)
        assert gray.float().mean().item() == pytest.approx(0.25, abs=0.04)

    def test_is_clamped_and_not_rounded(self) -> None:
        bank = Bank(blur=0, resize=0, noise=1, gray=0.5)
        noisy = degrade(torch.cat([self.MIDDLE[:8] - 0.5, self.MIDDLE[:8] + 0.5]), bank, self.SEEDS[:16], 0, 1, 2)
        assert noisy.min() == 0
        assert noisy.max() == 1
        assert 0.4 < (noisy[:8] == 0).float().mean() < 0.6
        inner = noisy[(noisy > 0) & (noisy < 1)] * 255
        assert (inner - inner.round()).abs().max() > 0.4


class TestResize:
    """Facts of the resize and the resize back; both are torch's own interpolation, the draws are not."""

    MODES = ("area", "bilinear", "bicubic")
    IMAGE = torch.from_numpy(closed_form("resized", (1, 3, 16, 24), 0, 1)).float()

    @staticmethod
    def interpolated(images: Tensor, size: tuple[int, int], mode: str) -> Tensor:
        return F.interpolate(images, size=size, mode=mode, align_corners=None if mode == "area" else False)

    def test_is_there_by_one_mode_and_back_by_another_with_one_factor_of_both_sides(self) -> None:
        factors = [0.5 + (index + 0.5) / 1000 for index in range(1000)]
        sizes = sorted({(int(16 * factor), int(24 * factor)) for factor in factors} - {(16, 24)})
        there = [(size, mode, self.interpolated(self.IMAGE, size, mode)) for size in sizes for mode in self.MODES]
        names = [(size, first, second) for size, first, _ in there for second in self.MODES]
        known = torch.cat([self.interpolated(small, (16, 24), second) for *_, small in there for second in self.MODES])
        bank = Bank(blur=0, resize=1, noise=0, gray=0)
        found = []
        for step in range(150):
            ours = degrade(self.IMAGE, bank, torch.arange(1), 0, step, 0)
            matches = (known - ours).abs().amax((1, 2, 3)) < 1e-6
            if matches.any():
                found.append(names[int(matches.int().argmax())])
            else:
                assert (ours - self.IMAGE).abs().max() < 1e-6, "a factor so near to 1 that the size stays"
        assert len(found) > 125
        assert sum(size > (16, 24) for size, *_ in found) / 150 == pytest.approx(0.25, abs=0.1)
        assert {(first, second) for _, first, second in found} == {(a, b) for a in self.MODES for b in self.MODES}
        assert min(size for size, *_ in found) == (8, 12)
        assert max(size for size, *_ in found) > (22, 33)

    def test_back_comes_after_the_noise(self) -> None:
        """So the noise of neighbours is correlated; added after the resize back, it would be white."""
        bank = Bank(blur=0, resize=1, noise=1, gray=0)
        middle = torch.full((4, 3, 48, 48), 0.5)
        noises = [degrade(middle, bank, torch.arange(4), 0, step, 0) - 0.5 for step in range(40)]
        alike = [torch.corrcoef(torch.stack([n[..., 1:].flatten(), n[..., :-1].flatten()]))[0, 1] for n in noises]
        assert torch.stack(alike).median() > 0.2


def rcan(blocks: int, factor: float) -> Rcan:
    network = Rcan(2, channels=8, groups=2, blocks=blocks, reduction=4)
    fill(network.double(), factor)
    return network


def run_state(network: Rcan) -> Tensor:
    """Every seventh weight, in the order of the names."""
    return torch.cat([value.flatten() for _, value in sorted(network.state_dict().items())])[::7]


def test_five_whole_iterations_are_the_official_ones() -> None:
    """Losses, gradients, the average as source of the history, and the moment of its refresh, in one."""
    student, average, teacher, start = rcan(1, 0.7), rcan(1, 0.7), rcan(2, 1.0), rcan(1, 0.8)
    encoder = VqganEncoder(channels=32, blocks=1, latent=12, codes=32, code_size=8)
    fill(encoder.double())
    weights = {"reconstruction": 1.0, "logits": 1.0, "contrastive": 0.1, "codes": 0.001, "label_consistency": 1.0}
    setting = Setting(start, frozenset(weights), 0, Frozen(teacher), load_encoder=lambda: Frozen(encoder))
    method = Dckd(
        setting,
        History(source="ema", momentum=0.1, intervals=(2,), phase=100_000),
        # Refused from params.yaml; here, without a random draw, every number can be compared.
        Negatives.model_construct(degraded=4, clean=True, bank=Bank(blur=0, resize=0, noise=0, gray=0)),
        augmentation_probability=1.0,
    )
    optimiser = torch.optim.SGD(student.parameters(), lr=1e-5)
    seeds = torch.arange(2)
    for step, official in enumerate(ORACLE["run_losses"], start=1):
        degraded = torch.from_numpy(closed_form(f"degraded{step}", (2, 3, 16, 16), 0, 1))
        clean = torch.from_numpy(closed_form(f"clean{step}", (2, 3, 32, 32), 0, 1))
        losses = method(student, Batch(degraded, clean, seeds, step))
        weighted = {name: weight * losses[name] for name, weight in weights.items()}
        np.testing.assert_allclose([loss.item() for loss in weighted.values()], official, rtol=1e-5, err_msg=f"{step}")
        optimiser.zero_grad()
        torch.stack([loss.double() for loss in weighted.values()]).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            for kept, new in zip(average.parameters(), student.parameters(), strict=True):
                kept.mul_(0.9).add_(new, alpha=0.1)
        method.follow(step, student, average)
    assert isinstance(method.contrast.history, Rcan)
    for name, network in {"student": student, "average": average, "history": method.contrast.history}.items():
        close(run_state(network), f"run_{name}", rtol=1e-6)
