"""What a step asks before it runs: which code it runs, dvc.yaml's lists of it, the verdict of the whole check.

Like telemetry, it changes no byte of an output.
"""
