"""What every task of equal size promises, and mistakes in its arguments."""

import numpy as np
import pytest
from skimage import data

from components.run.errors import InputError
from components.run.params import typed
from components.tasks import TASKS, TaskChoice, build_task

CAT = data.chelsea()[60:160, 100:221]
ARGUMENTS = {
    "noise": {"name": "denoise", "sigma": 25},
    "blind noise": {"name": "denoise", "sigma": [0, 50], "test_sigma": 25},
    "gray noise": {"name": "denoise", "sigma": 15, "gray": True},
    "rain": {"name": "derain", "rain": {}},
    "shake": {"name": "deblur", "shake": {}, "noise": 2},
}
PAIRS_ONLY = ("denoise", "derain", "deblur")


def task(arguments):
    return build_task(typed(TaskChoice, arguments, "params.yaml: tasks.one"))


def test_every_task_is_covered_here_or_in_its_own_tests():
    assert {arguments["name"] for arguments in ARGUMENTS.values()} | {"sr"} == set(TASKS)


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
class TestEqualSize:
    def test_a_degraded_image_has_the_size_of_the_clean_one_which_is_left_alone(self, arguments):
        made = task(arguments)
        clean = made.crop(CAT).copy()
        for degrade in (made.degrade, made.degrade_for_test):
            degraded = degrade(clean, np.random.default_rng(0))
            assert made.scale == 1
            assert degraded.shape == clean.shape == CAT.shape
            assert degraded.dtype in (np.uint8, np.float32)
            assert (degraded != clean).any()
        assert np.array_equal(clean, made.crop(CAT))

    def test_equal_seeds_give_equal_bytes_and_others_do_not(self, arguments):
        made = task(arguments)
        clean = made.crop(CAT)
        first, again, other = (made.degrade(clean, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert first.tobytes() == again.tobytes() == task(arguments).degrade(clean, np.random.default_rng(1)).tobytes()
        assert first.tobytes() != other.tobytes()
        tests = [made.degrade_for_test(clean, np.random.default_rng(3)).tobytes() for _ in range(2)]
        assert tests[0] == tests[1]

    def test_the_baseline_is_the_input_as_it_would_be_saved(self, arguments):
        made = task(arguments)
        degraded = made.degrade(made.crop(CAT), np.random.default_rng(0))
        restored = made.baseline(degraded)
        levels = degraded.astype(np.float64) * (1 if degraded.dtype == np.uint8 else 255)
        assert restored.dtype == np.uint8
        assert np.abs(restored - np.clip(levels, 0, 255)).max() < 0.5001

    def test_identical_images_get_full_marks_and_others_less(self, arguments):
        made = task(arguments)
        clean = made.crop(CAT)
        assert made.measure(clean, clean) == {"psnr": 100.0, "ssim": pytest.approx(1.0)}
        worse = made.measure(made.baseline(made.degrade(clean, np.random.default_rng(0))), clean)
        assert worse["psnr"] < 45
        assert worse["ssim"] < 0.999
        with pytest.raises(InputError, match="different shape"):
            made.measure(clean[:50], clean)


@pytest.mark.parametrize("name", PAIRS_ONLY)
def test_a_task_for_pairs_alone_says_what_it_lacks_when_asked_to_degrade(name):
    made = task({"name": name})
    for degrade in (made.degrade, made.degrade_for_test):
        with pytest.raises(InputError, match=rf"the task {name} has n.*`degraded` files"):
            degrade(CAT, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "denoise", "sigma": -5}, r"tasks\.one\.sigma.*greater than or equal to 0; found -5"),
        ({"name": "denoise", "sigma": [50, 0]}, r"tasks\.one\.sigma.*write \[0, 50\]"),
        ({"name": "denoise", "sigma": [0, 50]}, r"tasks\.one\.test_sigma: missing; sigma is a range, \[0, 50\]"),
        (
            {"name": "denoise", "sigma": [0, 50], "test_sigma": -1},
            r"tasks\.one\.test_sigma.*greater than or equal to 0",
        ),
        ({"name": "denoise", "gray": True}, r"tasks\.one\.sigma: missing; real noise.*neither `gray` nor `test_sigma`"),
        ({"name": "denoise", "sgima": 25}, r"unknown key 'sgima'. Did you mean 'sigma'"),
        ({"name": "derain", "luma": "double"}, r"tasks\.one\.luma: .*'rounded' or 'float'"),
        (
            {"name": "derain", "rain": {"brightness": [0.5, 2]}},
            r"tasks\.one\.rain\.brightness.*less than or equal to 1",
        ),
        ({"name": "derain", "rain": {"length": [9, 3]}}, r"tasks\.one\.rain\.length: .*write \[3, 9\]"),
        ({"name": "derain", "rain": {"lenght": [3, 9]}}, r"unknown key 'lenght'. Did you mean 'length'"),
        ({"name": "deblur", "noise": -1}, r"tasks\.one\.noise: .*greater than or equal to 0"),
        ({"name": "deblur", "shake": {"size": 24}}, r"tasks\.one\.shake\.size: .*odd number, 23 or 25"),
        ({"name": "deblur", "shake": {}, "kernels": ["a/b.mat"]}, r"tasks\.one\.shake: kernels are already given"),
    ],
)
def test_a_wrong_argument_is_named_with_its_key_in_params(arguments, message):
    with pytest.raises(InputError, match=message):
        task(arguments)
