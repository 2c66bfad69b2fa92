"""dvc.yaml and params.yaml as they stand: stages, what they ask of a cluster, what can't run there, other values.

It may import nothing of the other rooms.
"""
