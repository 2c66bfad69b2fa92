"""A slow reading of Caffe's network descriptions in numpy: the layers that IDN's release is made of, one by one."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
"""`C H W`."""


def layers(prototxt: str) -> list[dict[str, Any]]:
    """The layers in order: keys to lists of what is written for them, nested groups to dicts of such."""
    tokens = re.findall(r'"[^"]*"|[{}]|[^\s{}:]+', prototxt)

    def group(position: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        while position < len(tokens) and tokens[position] != "}":
            key, value = tokens[position], tokens[position + 1]
            if value == "{":
                inner, position = group(position + 2)
                found.setdefault(key, []).append(inner)
            else:
                found.setdefault(key, []).append(value.strip('"'))
                position += 1
            position += 1
        return found, position

    return group(0)[0]["layer"]


def run(prototxt: str, arrays: Mapping[str, NDArray[Any]], data: Values) -> Values:
    """What the last layer gives for `data`, with weights `LAYER.0` and biases `LAYER.1`."""
    blobs = {"data": data}
    top = "data"
    for layer in layers(prototxt):
        (name,), (kind,), bottoms, tops = layer["name"], layer["type"], layer["bottom"], layer["top"]
        given = [blobs[bottom] for bottom in bottoms]
        if kind in {"Convolution", "Deconvolution"}:
            written = layer["convolution_param"][0]
            settings = {key: int(value) for key, (value,) in written.items() if isinstance(value, str)}
            apply = convolved if kind == "Convolution" else deconvolved
            weight, bias = (np.asarray(arrays[f"{name}.{part}"], dtype=np.float64) for part in (0, 1))
            made = [apply(given[0], weight, settings) + bias[:, None, None]]
        elif kind == "ReLU":
            slope = float(layer["relu_param"][0]["negative_slope"][0])
            made = [np.where(given[0] > 0, given[0], slope * given[0])]
        elif kind == "Split":
            made = [given[0]] * len(tops)
        elif kind == "Slice":
            made = np.split(given[0], [int(layer["slice_param"][0]["slice_point"][0])])
        elif kind == "Concat":
            made = [np.concatenate(given)]
        elif kind == "Eltwise":
            assert layer["eltwise_param"][0]["operation"] == ["1"], "a sum"
            made = [sum(given[1:], given[0])]
        else:
            raise AssertionError(kind)
        blobs.update(zip(tops, made, strict=True))
        top = tops[0]
    return blobs[top]


def convolved(data: Values, weight: Values, settings: Mapping[str, int]) -> Values:
    """Cross-correlation in groups, each output channel from the input channels of its group."""
    side, pad, groups = settings["kernel_size"], settings["pad"], settings["group"]
    padded = np.pad(data, ((0, 0), (pad, pad), (pad, pad)))
    height, width = (length - side + 1 for length in padded.shape[1:])
    inputs, outputs = len(data) // groups, len(weight) // groups
    result = np.zeros((len(weight), height, width))
    for channel in range(len(weight)):
        first = channel // outputs * inputs
        for row in range(side):
            for column in range(side):
                window = padded[first : first + inputs, row : row + height, column : column + width]
                result[channel] += np.tensordot(weight[channel, :, row, column], window, 1)
    return result


def deconvolved(data: Values, weight: Values, settings: Mapping[str, int]) -> Values:
    """Each pixel adds its kernel to the output, which then loses `pad` pixels on each side."""
    side, pad, step = settings["kernel_size"], settings["pad"], settings["stride"]
    height, width = (step * (length - 1) + side for length in data.shape[1:])
    result = np.zeros((weight.shape[1], height, width))
    for row in range(data.shape[1]):
        for column in range(data.shape[2]):
            added = np.tensordot(data[:, row, column], weight, 1)
            result[:, row * step : row * step + side, column * step : column * step + side] += added
    return result[:, pad : height - pad, pad : width - pad]
