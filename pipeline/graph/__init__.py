"""dvc.yaml and params.yaml as values: stages, what they ask of a cluster, what can't run there, and other params.

It may import nothing of the other rooms.
"""
