import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.ndimage import convolve
from scipy.signal import convolve2d
from skimage import data

from components.run.errors import InputError
from components.tasks.deblur.kernels import blur, read_kernels
from tests.bounded import bounded

CAT = data.chelsea()[100:140, 100:161]
KERNEL = np.random.default_rng(0).random((7, 9))


@pytest.mark.parametrize("size", [(7, 9), (1, 5), (9, 1), (3, 3), (25, 25), (31, 5), (4, 6), (2, 3), (8, 8)])
def test_blurring_is_the_convolution_of_scipy_with_mirrored_borders(size):
    kernel = np.random.default_rng(1).random(size)
    kernel /= kernel.sum()
    blurred = blur(CAT, kernel)
    assert blurred.dtype == np.float32
    for channel in range(3):
        plane = CAT[..., channel].astype(float)
        np.testing.assert_allclose(blurred[..., channel], convolve(plane, kernel, mode="reflect"), atol=1e-3)
        if all(side % 2 for side in size):
            other = convolve2d(plane, kernel, mode="same", boundary="symm")
            np.testing.assert_allclose(blurred[..., channel], other, atol=1e-3)


def test_a_bright_point_becomes_a_picture_of_the_kernel_which_correlation_would_turn():
    point = np.zeros((15, 17, 3), np.uint8)
    point[7, 8] = 200
    kernel = KERNEL / KERNEL.sum()
    assert np.allclose(blur(point, kernel)[4:11, 4:13, 1], 200 * kernel, atol=1e-4)
    assert not np.allclose(kernel, kernel[::-1, ::-1], atol=1e-2)


def test_light_is_neither_lost_nor_won():
    gray = np.full((40, 30, 3), 77, np.uint8)
    assert np.allclose(blur(gray, KERNEL / KERNEL.sum()), 77, atol=1e-3)


def cells(*kernels):
    array = np.empty((1, len(kernels)), object)
    for index, kernel in enumerate(kernels):
        array[0, index] = kernel
    return array


@pytest.mark.parametrize("compressed", [True, False])
def test_kernels_of_a_matlab_file_are_read_in_their_order_with_sum_1(tmp_path, compressed):
    second = np.arange(12, dtype=np.uint8).reshape(3, 4)
    savemat(tmp_path / "k.mat", {"kernels": cells(KERNEL, second)}, do_compression=compressed)
    first, other = read_kernels(tmp_path / "k.mat")
    assert np.allclose(first, KERNEL / KERNEL.sum())
    assert np.allclose(other, second / 66)
    savemat(tmp_path / "one.mat", {"k": KERNEL.astype(np.float32)})
    assert [kernel.shape for kernel in read_kernels(tmp_path / "one.mat")] == [(7, 9)]


def test_a_gray_image_is_a_kernel(tmp_path):
    levels = np.arange(15, dtype=np.uint8).reshape(3, 5)
    Image.fromarray(levels).save(tmp_path / "k.png")
    (kernel,) = read_kernels(tmp_path / "k.png")
    assert np.allclose(kernel, levels / 105)
    Image.fromarray(np.stack([levels, levels, levels + 1], 2)).save(tmp_path / "colours.png")
    with pytest.raises(InputError, match=r"colours\.png: a kernel is a gray image"):
        read_kernels(tmp_path / "colours.png")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "holds no array, so no kernel"),
        ({"k": np.zeros((3, 3))}, r"k\.mat: k: .*3x3 with values of 0 to 0 is not a motion kernel"),
        ({"k": np.array([[1.0, -0.5, 1.0]])}, r"k\.mat: k: .*values of -0.5 to 1 is not a motion kernel"),
        ({"k": np.array([[1.0, np.nan, 1.0]])}, "not a motion kernel"),
        ({"k": "abc"}, r"k\.mat: k: holds text, not a kernel"),
        ({"k": cells(KERNEL, "abc")}, r"k\.mat: k: holds text, not a kernel"),
        ({"k": cells(KERNEL, 1j * KERNEL)}, r"k\.mat: k: holds values of the kind complex128, not a kernel"),
        ({"k": np.float64(1)}, r"an array of 1x1 is not a kernel; write one of 2 to 256 a side"),
        ({"k": np.ones((3, 3, 3))}, r"an array of 3x3x3 is not a kernel"),
        ({"k": np.ones((300, 300))}, r"an array of 300x300 is not a kernel"),
        ({"k": np.zeros((0, 0))}, r"an array of 0x0 is not a kernel"),
    ],
)
def test_what_is_no_kernel_is_named_with_file_and_variable(tmp_path, values, message):
    savemat(tmp_path / "k.mat", values)
    with pytest.raises(InputError, match=message):
        read_kernels(tmp_path / "k.mat")


@pytest.mark.parametrize(
    "content", [b"", b"not a matrix\n" * 50, bytes(range(256)) * 3], ids=["empty", "text", "bytes"]
)
def test_what_is_no_matlab_file_is_named(tmp_path, content):
    (tmp_path / "k.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"k\.mat: is not a MATLAB file, or is damaged"):
        read_kernels(tmp_path / "k.mat")


def test_a_file_cut_short_at_any_byte_is_named_or_read_in_full(tmp_path):
    savemat(tmp_path / "k.mat", {"kernels": cells(KERNEL, KERNEL)}, do_compression=True)
    whole = (tmp_path / "k.mat").read_bytes()
    for length in range(1, len(whole), 37):
        (tmp_path / "cut.mat").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.mat"):
            read_kernels(tmp_path / "cut.mat")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"k\.mat: not found"):
        read_kernels(tmp_path / "k.mat")


def test_a_bomb_is_refused_before_it_is_read(tmp_path):
    savemat(tmp_path / "k.mat", {"k": KERNEL, "zeros": np.zeros(80 << 20, np.uint8)}, do_compression=True)
    ended = bounded(read_kernels, tmp_path / "k.mat")
    assert str(ended.error).startswith(f"{tmp_path / 'k.mat'}: refused as a bomb: unpacked, it has more than 100 times")
    assert ended.memory < 50 << 20
