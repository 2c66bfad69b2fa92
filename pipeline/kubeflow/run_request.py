"""What to run, from the flags of `submit` and `local`: the compiled pipeline and its parameters, checked."""

import argparse
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.graph.graph import Stage, select
from pipeline.graph.overrides import as_json
from pipeline.graph.rules import read_sound_graph
from pipeline.kubeflow.compile import add_target_argument, compiled
from pipeline.kubeflow.pods import GIT_SECRET
from pipeline.messages import PipelineError
from pipeline.project import without_secrets
from pipeline.working_copy.composition import add_override_arguments, override
from pipeline.working_copy.workspace import working_copy


@dataclass(frozen=True)
class RunRequest:
    """A run that can be started.

    Attributes:
        name: name of the run, and of the DVC experiment that it becomes.
        pipeline: the compiled pipeline, YAML.
        parameters: values of its parameters.
        stages: the stages in it.
    """

    name: str
    pipeline: str
    parameters: dict[str, str]
    stages: tuple[Stage, ...]


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what to run."""
    parser.add_argument("--image", required=True, metavar="IMAGE", help="the stages' image, by digest or revision")
    parser.add_argument(
        "--revision", default="", help="git revision to run, from --repository; default: the source inside the image"
    )
    parser.add_argument(
        "--repository", default="", metavar="URL", help="where the revision is cloned from; default: git's `origin`"
    )
    add_override_arguments(parser)
    add_target_argument(parser)


def read_request(arguments: argparse.Namespace) -> RunRequest:
    """Compile what the flags ask for. Nothing has been started when this raises.

    The graph is that of the overrides: they may change which stages there are.

    Args:
        arguments: the flags of `add_run_arguments`, and `name`.

    Raises:
        PipelineError: the graph can't run on a cluster, a stage of it must fail, or a flag is wrong.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", arguments.name):
        raise PipelineError(f"--name {arguments.name}: only letters, digits and `._-`: it names a git reference.")
    revision, repository = _source(arguments.revision, arguments.repository)
    with working_copy(revision, "", {}) as copy:
        overrides = override(copy, arguments)
        graph = read_sound_graph(copy.folder)
    parameters = {
        "revision": revision,
        "repository": repository,
        "overrides": as_json(overrides),
        "name": arguments.name,
    }
    _refuse_secrets(parameters | {"image": arguments.image})
    pipeline = compiled(graph, arguments.image, arguments.targets)
    return RunRequest(arguments.name, pipeline, parameters, select(graph, arguments.targets))


# What to do about a secret in a parameter of a run: Kubeflow stores and shows them all.
_WAY_OUT = {
    "repository": "Give the address without them; the tasks take GIT_USERNAME and GIT_PASSWORD from the Secret "
    f"{GIT_SECRET} (deploy/kubernetes), and `local` from the environment",
    "overrides": "Give no password or token to --set: http sources read ~/.netrc, S3 sources the environment",
    "image": "Give the image without them: a cluster takes them from an imagePullSecret",
}


def _refuse_secrets(parameters: Mapping[str, str]) -> None:
    for name, value in parameters.items():
        without_scheme = "://" not in value and re.match(r"[^/@\s]+:[^/@\s]+@(?!sha256:)", value)
        if without_scheme or without_secrets(value) != value:
            flag = {"overrides": "--set"}.get(name, f"--{name}")
            told = f"://{value}" if without_scheme else value
            raise PipelineError(
                f"{flag}: holds a password or token, which Kubeflow would store: {without_secrets(told)}. "
                f"{_WAY_OUT.get(name, 'Choose another')}."
            )


def _git(*words: str) -> str | None:
    result = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    return result.stdout if result.returncode == 0 else None


def _source(revision: str, repository: str) -> tuple[str, str]:
    """The full commit, so that all tasks of a run see the same one, and where it is cloned from."""
    if not revision:
        if repository:
            raise PipelineError("--repository: say which --revision of it to run.")
        return "", ""
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if not commit:
        raise PipelineError(f"--revision {revision}: no commit of this clone. Commit first, or `git fetch`.")
    url = repository or (_git("remote", "get-url", "origin") or "").strip()
    if not url:
        raise PipelineError("--repository: this clone has no remote `origin`; say where the revision is cloned from.")
    return commit.strip(), url
