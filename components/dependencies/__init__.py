"""What a step asks before it runs: the code it runs and its lists, the check's verdict, the DVC above it.

Like telemetry, it changes no byte of an output.
"""
