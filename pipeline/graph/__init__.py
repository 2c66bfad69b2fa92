"""dvc.yaml and params.yaml as values: stages, what they ask of a cluster, what can't run, overrides of params.

It may import no other subpackage.
"""
