"""Runs the compiled pipeline in containers on this machine, with kfp's local runner.

It may import `kubeflow` and `graph`.
"""
