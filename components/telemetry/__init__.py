"""Tracking by MLflow that can never hurt a run: steps write a local journal, a process of its own sends it.

`python -m components.telemetry` sends what is still here. Read `recorder.py` first, which is what a step does, then
`follow.py`, which is what becomes of it.
"""
