"""Mixup: each training sample becomes a weighted mean of two, as in Restormer's denoising."""

import numpy as np
import torch
from torch import Tensor

from components.methods.method import Batch
from components.methods.parts.collectives import all_gather_rows
from components.methods.parts.draws import generator, mixed
from components.training.recipe import Mixup

_SHARE, _PARTNERS = 11, 12


def mix(batch: Batch, mixup: Mixup, seed: int, rank: int) -> Batch:
    """Mix each sample with another one of the whole batch, `l x_i + (1 - l) x_j`, degraded and clean alike.

    `l ~ Beta(beta, beta)` is drawn once per step, and the partners are a permutation of the batch; both depend only on
    the seed and the step. A step stays unmixed with probability `1 - probability`. In the release, every process draws
    its own.

    Args:
        batch: this process's share.
        mixup: the distribution, and how often.
        seed: of the run.
        rank: of this process.
    """
    random = np.random.default_rng(mixed(seed, batch.step, _SHARE))
    if random.random() >= mixup.probability:
        return batch
    share = float(random.beta(mixup.beta, mixup.beta))
    degraded, clean = all_gather_rows(batch.degraded), all_gather_rows(batch.clean)
    partners = torch.randperm(len(degraded), generator=generator(seed, batch.step, _PARTNERS))
    ours = partners[rank * len(batch.degraded) :][: len(batch.degraded)].to(degraded.device)

    def blended(own: Tensor, everyone: Tensor) -> Tensor:
        return share * own + (1 - share) * everyone[ours]

    return batch._replace(degraded=blended(batch.degraded, degraded), clean=blended(batch.clean, clean))
