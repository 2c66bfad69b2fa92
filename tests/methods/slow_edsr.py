"""EDSR x2 written out from its figure 3, in float64: cut and joined by hand, without the interface for backbones."""

import torch
import torch.nn.functional as F

from components.backbones.edsr import Edsr

MEAN = torch.tensor([0.4488, 0.4371, 0.4040], dtype=torch.float64).view(1, 3, 1, 1)


def network(channels, blocks, seed):
    torch.manual_seed(seed)
    return Edsr(2, channels=channels, blocks=blocks)


def weights_of(module):
    """Its weights in float64, with gradients of their own."""
    return {key: value.detach().double().requires_grad_() for key, value in module.state_dict().items()}


def convolved(weights, name, features):
    return F.conv2d(features, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)


def begin(weights, image):
    """What the head convolution makes: the first features, and the global skip."""
    return convolved(weights, "head.0", 255 * (image.double() - MEAN))


def blocks(weights, features, skip, first, stop, depth):
    """Residual blocks from `first` to before `stop`; after the last of `depth`, closing convolution and skip."""
    for block in range(first, stop):
        hidden = F.relu(convolved(weights, f"body.{block}.body.0", features))
        features = features + convolved(weights, f"body.{block}.body.2", hidden)
        if block == depth - 1:
            features = convolved(weights, f"body.{depth}", features) + skip
    return features


def end(weights, features):
    """Sub-pixel convolution, last convolution, back to [0, 1]."""
    return convolved(weights, "tail.1", F.pixel_shuffle(convolved(weights, "tail.0.0", features), 2)) / 255 + MEAN


def restore(weights, image, depth):
    skip = begin(weights, image)
    return end(weights, blocks(weights, skip, skip, 0, depth, depth))


def projected(weight, features):
    """A 1x1 convolution without bias."""
    return torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], features)


def l1(one, other):
    return (one - other).abs().mean()
