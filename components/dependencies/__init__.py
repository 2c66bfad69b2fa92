"""Which code a step runs, and the lists of dvc.yaml that say so. Like telemetry, it changes no byte of an output."""
