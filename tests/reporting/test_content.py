"""The sentences that explain the tables."""

from dataclasses import replace

import pytest

from components.reporting import content
from components.tasks.denoise import Denoising
from components.tasks.sr import SuperResolution
from tests.reporting.findings import findings


@pytest.mark.parametrize(
    ("task", "baseline", "told"),
    [
        (SuperResolution(2), "bicubic", "bicubic restores without any learning; the teacher"),
        (Denoising(25), "input", "input is the degraded image as it is; the teacher"),
    ],
)
def test_the_guide_says_what_the_baseline_is(task, baseline, told):
    found = replace(findings({baseline: 20.0, "scratch": 28.0, "teacher": 30.0}), task=task)
    assert any(line.startswith(told) for line in content._guide(found))
