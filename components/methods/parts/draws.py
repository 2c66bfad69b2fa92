"""Random numbers that depend only on the sample or the step, never on what was drawn before."""

import torch
from torch import Tensor

_MIXER = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def mixed(*numbers: int) -> int:
    """One 63-bit seed from several integers (splitmix64), so that neighbouring ones give unrelated streams."""
    state = 0
    for number in numbers:
        state = (state + (number & _MASK) + _MIXER) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def generator(*numbers: int) -> torch.Generator:
    """A generator seeded by several integers; always on the CPU, so that every device gets the same numbers."""
    return torch.Generator().manual_seed(mixed(*numbers))


def sample_generators(seeds: Tensor, purpose: int) -> list[torch.Generator]:
    """A generator for each sample (`B` seeds), independent of those for other purposes."""
    return [generator(int(seed), purpose) for seed in seeds.tolist()]
