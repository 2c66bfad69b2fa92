"""Start the pipeline on a Kubeflow cluster."""

import argparse
import os

from pipeline.kubeflow import pods
from pipeline.kubeflow.cluster import Cluster
from pipeline.kubeflow.run_request import add_run_arguments, read_request
from pipeline.messages import PipelineError, say
from pipeline.project import without_secrets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("--name", required=True, help="name of the run, and of the DVC experiment that it becomes")
    add_run_arguments(parser)
    parser.add_argument("--host", default=os.environ.get("KFP_HOST", ""), help="Kubeflow Pipelines; default: $KFP_HOST")
    parser.add_argument(
        "--namespace", default=os.environ.get("KFP_NAMESPACE", ""), help="of the run; default: $KFP_NAMESPACE"
    )
    parser.add_argument("--experiment", default=pods.PROJECT, help=f"Kubeflow's group of runs; default: {pods.PROJECT}")
    parser.add_argument("--service-account", metavar="NAME", help="of the pods; default: Kubeflow's own choice")
    parser.add_argument("--wait", action="store_true", help="until the run has ended; fails if the run fails")
    parser.epilog = "The bearer token, if the cluster asks for one, is read from $KFP_TOKEN."


def run(arguments: argparse.Namespace) -> None:
    """Start a run, print its id and address, and wait for it if asked to."""
    if not arguments.host:
        raise PipelineError(
            "KFP_HOST is not set: the address of Kubeflow Pipelines, as in https://example.org/pipeline."
        )
    cluster = Cluster(arguments.host.rstrip("/"), arguments.namespace, os.environ.get("KFP_TOKEN", "").strip())
    request = read_request(arguments)
    cluster.check()
    identifier = cluster.start(request, arguments.experiment, arguments.service_account)
    say(f"run: {identifier}\n{without_secrets(cluster.host)}/#/runs/details/{identifier}")
    if arguments.wait:
        cluster.wait(identifier)
