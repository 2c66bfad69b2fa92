"""Record a run: one dvc.lock from its tasks' locks, verified as complete, as a DVC experiment."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    from pipeline.tasks.task import add_source_arguments  # noqa: PLC0415 -- as every heavier import here

    add_source_arguments(parser)
    parser.add_argument("--name", default="", help="of the experiment; default: made from its results")
    parser.add_argument(
        "--upstream", action="extend", nargs="+", type=Path, default=[], metavar="FILE", help="locks of the run's tasks"
    )
    parser.add_argument("--lock-output", type=Path, metavar="FILE", help="where to write the merged dvc.lock")
    parser.add_argument("--executor-input", default="", metavar="JSON", help="what Kubeflow puts in place of '{{$}}'")
    parser.epilog = "Without --repository, the experiment is recorded in the clone that the command is called in."


def run(arguments: argparse.Namespace) -> None:
    """Merge, verify, write and record.

    Raises:
        PipelineError: a lock is missing or damaged, stages would have to run again, or git refuses.
    """
    from pipeline.deciding.lock import LOCK_FILE, read_fragments  # noqa: PLC0415
    from pipeline.graph.overrides import PARAMS_FILE, read_json  # noqa: PLC0415
    from pipeline.messages import PipelineError, say  # noqa: PLC0415
    from pipeline.tasks.executor_output import write_executor_output  # noqa: PLC0415
    from pipeline.tasks.experiment import check_name, default_name, record, write_commit  # noqa: PLC0415
    from pipeline.tasks.run_record import merged_lock  # noqa: PLC0415
    from pipeline.working_copy.git import project_git  # noqa: PLC0415
    from pipeline.working_copy.workspace import working_copy  # noqa: PLC0415

    if not arguments.upstream:
        raise PipelineError("--upstream: give the locks of the run's tasks.")
    if arguments.repository and not arguments.revision:
        raise PipelineError("--repository: say which --revision of it was run.")
    if arguments.name:
        check_name(arguments.name)
    found = read_fragments(arguments.upstream)
    revision = arguments.revision or ("HEAD" if project_git(Path()) else "")
    output = arguments.lock_output and arguments.lock_output.absolute()
    with working_copy(revision, arguments.repository, read_json(arguments.overrides)) as copy:
        text = merged_lock(copy.folder, found)
        # With other params, dvc.yaml may have other lists.
        written = [path for name in (PARAMS_FILE, "dvc.yaml") if (path := copy.folder / name).exists()]
        files = {LOCK_FILE: text} | {path.name: path.read_text(encoding="utf-8") for path in written}
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(text, encoding="utf-8")
        if copy.git and copy.commit:
            name = arguments.name or default_name(files)
            commit = write_commit(copy.git, copy.commit, files, f"{name}: params and results of a run")
            record(copy.git, arguments.repository, copy.commit, commit, name)
        else:
            say("no git repository here and no --repository: only the merged dvc.lock was written")
    write_executor_output(arguments.executor_input, {})
