"""The numbers of a metrics file."""

from pipeline.graph.numbers import finite, flat_numbers


def test_numbers_are_named_by_their_place():
    values = {"set5": {"psnr": 33.5, "ssim": 0.9}, "parameters": 10, "name": "x", "passed": True, "list": [1]}
    assert dict(flat_numbers(values)) == {"set5.psnr": 33.5, "set5.ssim": 0.9, "parameters": 10}
    assert dict(flat_numbers({"a": 1}, "scratch")) == {"scratch.a": 1}


def test_what_is_no_number_for_json_can_be_left_out():
    assert finite([("a", float("nan")), ("b", float("inf")), ("c", 0)]) == {"c": 0}
