"""MLflow tracking that can never harm a run: steps write a local journal, a separate process sends it.

`python -m components.telemetry` sends what has not been sent. Read `recorder.py` first, on what a step does, then
`follow.py`, on how that is sent.
"""
