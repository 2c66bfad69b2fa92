"""Ranges that a degradation draws from: `[low, high]`, with equal ends for a single value."""

from typing import Annotated

from pydantic import AfterValidator, Field


def _ascends(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"a range goes from its low end to its high end: write [{ends[1]:g}, {ends[0]:g}]")
    return ends


_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Angle = Annotated[float, Field(ge=-90, le=90)]

Amounts = Annotated[tuple[_Amount, _Amount], AfterValidator(_ascends)]
"""A range of non-negative numbers."""
Shares = Annotated[tuple[_Share, _Share], AfterValidator(_ascends)]
"""A range of numbers in 0..1."""
Angles = Annotated[tuple[_Angle, _Angle], AfterValidator(_ascends)]
"""A range of degrees in -90..90."""
