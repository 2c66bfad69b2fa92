"""Keys of params.yaml that have another name or place now: refused, with what to write."""

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
"""From the old name to the new one; an old name is told only where the new one is known."""


MOVED = {"*students.*.training.seed": "run.seeds", "*ensembles.*.members": "run.members"}
"""From patterns of a key and its place to where the same stands now."""


def moved_to(key: str) -> str | None:
    """Where what was meant by a key stands now."""
    return next((place for pattern, place in MOVED.items() if fnmatch(key, pattern)), None)


def now_called(key: str, name: str) -> str:
    """What is said of an old name, at its place `key`."""
    return f"{key}: this key is now called {RENAMED[name]}; write that."
