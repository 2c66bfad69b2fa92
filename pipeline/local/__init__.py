"""The compiled pipeline in containers of this machine, by kfp's local runner.

It may import `kubeflow` and `graph`.
"""
