"""A training step on several nodes: the TrainJob that a task makes, follows and deletes.

It may import nothing of the other rooms: the stage that it serves reaches it as a command line.
"""
