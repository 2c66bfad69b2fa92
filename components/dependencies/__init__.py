"""What a step asks before it runs: which code it runs, dvc.yaml's lists of it, the check's verdict, whether DVC is there.

Like telemetry, it changes no byte of an output.
"""
