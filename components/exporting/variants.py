"""Smaller variants of a graph: one with 16-bit weights and values, and one with convolutions on 8-bit integers."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from components.exporting.session import INPUT
from components.images.pixels import Degraded, to_float


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in half precision; its input and output stay float32.

    It halves the file, and also the memory on hardware that computes in half precision. Most of ONNX Runtime's CPU
    kernels do not, and convert back and forth, so there it is slower.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    smaller: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    return smaller


def quantised(model: onnx.ModelProto, crops: Sequence[Degraded]) -> onnx.ModelProto:
    """The graph with its convolutions on 8-bit integers.

    Quantisation is static: the range of every value is the smallest that holds all values from the calibration crops
    and from a black and a white crop, without which an image brighter than all crops would be clipped. Weights have 7
    bits, because without VNNI the processor's 16-bit sums of products overflow at 8, and a scale per output channel.

    Args:
        model: the graph.
        crops: degraded images, `h w 3` RGB.
    """
    extremes = [np.full(crops[0].shape, level, np.uint8) for level in (0, 255)]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "graph.onnx"), Path(folder, "quantised.onnx")
        onnx.save(model, source)
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)  # it recommends a preparation that finds nothing here
        try:
            quantize_static(
                source,
                target,
                _Crops([*crops, *extremes]),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
        finally:
            logging.getLogger().setLevel(level)
        smaller = onnx.load(target)
    onnx.helper.set_model_props(smaller, {prop.key: prop.value for prop in model.metadata_props})
    return smaller


class _Crops(CalibrationDataReader):  # type: ignore[misc]  # without types
    """Calibration crops, one by one, as inputs of the graph."""

    def __init__(self, crops: Sequence[Degraded]) -> None:
        self._waiting = iter(crops)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        crop = next(self._waiting, None)
        if crop is None:
            return None
        return {INPUT: np.ascontiguousarray(to_float(crop).transpose(2, 0, 1)[None])}
