"""Keys of params.yaml that were renamed or moved: they are refused with what to write instead."""

from fnmatch import fnmatch

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
"""From the old name to the new one; an old name is reported only where the new one is valid."""


MOVED = {"*students.*.training.seed": "run.seeds", "*ensembles.*.members": "run.members"}
"""From patterns of a key with its place to its new place."""


def moved_to(key: str) -> str | None:
    """The new place of a key that has moved, or None."""
    return next((place for pattern, place in MOVED.items() if fnmatch(key, pattern)), None)


def now_called(key: str, name: str) -> str:
    """The message about an old name, at its place `key`."""
    return f"{key}: this key is now called {RENAMED[name]}; write that."
