"""Which stages a run would run, why, and what it takes; no data is read, and the project stays as it is."""

import argparse
import json
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    from pipeline.working_copy.composition import add_override_arguments  # noqa: PLC0415 -- DVC takes a second

    add_override_arguments(parser)
    parser.add_argument("--targets", nargs="+", default=[], metavar="STAGE", help="these, and what they depend on")
    parser.add_argument("--revision", default="", metavar="REV", help="branch, tag or commit; default: the files here")
    parser.add_argument("--repository", default="", metavar="URL", help="where the revision comes from")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.epilog = "With DVC_REMOTE_URL, also asks the remote for outputs and for earlier runs of the same inputs."


def run(arguments: argparse.Namespace) -> None:
    """Print a line for each stage, in the order in which they run."""
    from pipeline.deciding.costs import shown, with_costs  # noqa: PLC0415 -- DVC takes a second
    from pipeline.storage.remote import open_remote  # noqa: PLC0415
    from pipeline.working_copy.composition import override  # noqa: PLC0415
    from pipeline.working_copy.workspace import working_copy  # noqa: PLC0415

    remote = open_remote()
    with working_copy(arguments.revision, arguments.repository, {}) as copy:
        override(copy, arguments)
        lines = plan(copy.folder, arguments.targets, remote)
    lines = with_costs(lines)
    if arguments.json:
        sys.stdout.write(json.dumps(lines, indent=2) + "\n")
        return
    sys.stdout.writelines(f"{line}\n" for line in shown(lines))
    if remote is None:
        sys.stdout.write("DVC_REMOTE_URL is not set, so the remote was not asked what it has.\n")


def plan(folder: Path, targets: list[str], remote: Any | None) -> list[dict[str, Any]]:
    """Decide for every stage of the project in `folder`, in the order in which they run.

    What a stage produces is unknown until it runs. So below a stage that will run, a stage with unchanged params, code
    and command `may run`: it does if its inputs come out different from last time.

    Args:
        folder: a working copy without data.
        targets: names of stages; they and what they depend on are planned. Empty = all.
        remote: asked for outputs and earlier runs; None = no remote.

    Returns:
        `{"stage", "will", "reasons"}`; `will` is `run`, `may run`, `restore` (from an earlier run), or `not run`. Of
        what it takes to run, `steps` of training (None: it does not train), `output_bytes` by its last run anywhere
        (None: not known), and `memory_request`, what it asks of a cluster.
    """
    from dvc.repo import Repo  # noqa: PLC0415
    from dvc.utils.serialize import load_yaml  # noqa: PLC0415

    from pipeline.deciding.costs import needs  # noqa: PLC0415
    from pipeline.deciding.reproduce import decide, find_stages, run_order, upstream_of  # noqa: PLC0415
    from pipeline.deciding.run_cache import RunCache  # noqa: PLC0415
    from pipeline.graph.overrides import PARAMS_FILE  # noqa: PLC0415

    lines = []
    uncertain: set[str] = set()
    with chdir(folder), Repo(str(folder)) as repo:
        params = load_yaml(PARAMS_FILE) if Path(PARAMS_FILE).exists() else {}
        runs = RunCache(repo, remote, push=False)
        wanted = [stage for name in targets for stage in find_stages(repo.index.stages, name)]
        for stage in run_order(repo, wanted):
            upstream = upstream_of(repo, stage)
            above = sorted(one.name for one in upstream if one.name in uncertain)
            known = [one for one in upstream if one.name not in uncertain]
            decision = decide(repo, stage, known, remote, None if above else runs)
            reasons = list(decision.reasons)
            if decision.runs or above:
                uncertain.add(stage.name)
            if decision.runs:
                will = "run"
            elif above:
                will = "may run"
                reasons += [f"{name} may make something else" for name in above]
            else:
                will = "restore" if decision.earlier else "not run"
            lines.append({"stage": stage.name, "will": will, "reasons": reasons, **needs(repo, stage, params)})
    return lines
