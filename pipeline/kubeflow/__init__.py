"""Kubeflow Pipelines: the graph as a pipeline of pods, a request to run it, and the cluster that takes it.

It may import `graph`.
"""
