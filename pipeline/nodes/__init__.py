"""A training step on several nodes: the TrainJob that a task makes, follows and deletes.

It may import no other subpackage: the stage that it serves calls it by a command line.
"""
