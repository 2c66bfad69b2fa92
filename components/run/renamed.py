"""Keys of params.yaml that have another name now: refused, with the name to write."""

RENAMED = {
    "average_decay": "ema_decay",
    "clip_norm": "grad_clip_norm",
    "committees": "ensembles",
    "dropped": "drop_path_rate",
    "keep": "momentum",
    "progression": "progressive_learning",
    "symmetry_probability": "augmentation_probability",
    "warm_up": "warmup_steps",
}
"""From the old name to the new one; an old name is told only where the new one is known."""


def now_called(key: str, name: str) -> str:
    """What is said of an old name, at its place `key`."""
    return f"{key}: this key is now called {RENAMED[name]}; write that."
