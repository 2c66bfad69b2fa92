"""A run as a DVC experiment: a commit on top of the revision, under `refs/exps/`, made with git alone."""

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.messages import PipelineError, say
from pipeline.project import without_secrets
from pipeline.working_copy.git import Git, GitError

_TRIES = 5
_NOBODY = {"name": "pipeline", "email": "pipeline@localhost"}


def default_name(files: Mapping[str, str]) -> str:
    """A name made from what the run recorded: the same for the same params and results."""
    return f"run-{hashlib.sha256(''.join(files.values()).encode()).hexdigest()[:7]}"


def check_name(name: str) -> None:
    """Check that git and DVC accept a name, before anything is done.

    Raises:
        PipelineError: they do not.
    """
    words = ["git", "check-ref-format", f"refs/exps/{name}"]
    if "/" in name or name.startswith("-") or subprocess.run(words, check=False).returncode:
        raise PipelineError(f"--name {name}: not a name that git accepts: letters, digits and `._-` are safe.")


def write_commit(git: Git, base: str, files: Mapping[str, str], message: str) -> str:
    """Write a commit on top of `base` with some of its files replaced; nothing refers to it yet.

    Returns:
        Its full name.
    """
    with TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        git.run("read-tree", base, environment=index)
        for name, text in files.items():
            blob = git.run("hash-object", "-w", "--stdin", text=text)
            git.run("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", environment=index)
        tree = git.run("write-tree", environment=index)
    return git.run("commit-tree", tree, "-p", base, "-m", message, environment=_author(git))


def _author(git: Git) -> dict[str, str]:
    """Who records the run: as in git's own settings, if there are any; a container has none."""
    found: dict[str, str] = {}
    for part, default in _NOBODY.items():
        try:
            value = git.run("config", f"user.{part}")
        except GitError:
            value = default
        found |= {f"GIT_{role}_{part.upper()}": value for role in ("AUTHOR", "COMMITTER")}
    return found


def record(git: Git, repository: str, base: str, commit: str, name: str) -> str:
    """Give the commit a name among the experiments of `base`.

    If another run has the name, a number is appended; a run that is already recorded stays as it is.

    Args:
        git: the repository that has the commit.
        repository: URL that it is pushed to; '' records it in `git` itself.
        base: commit that the run started from.
        commit: the run's.
        name: wanted name.

    Returns:
        The name it got.

    Raises:
        PipelineError: the repository can't be read, or refuses.
    """
    reason = ""
    for _ in range(_TRIES):
        taken = _experiments(git, repository)
        got = _free(git, repository, taken, base, commit, name)
        reference = f"refs/exps/{base[:2]}/{base[2:]}/{got}"
        if reference in taken:
            say(f"already recorded as experiment {got}")
            return got
        try:
            _write(git, repository, reference, commit)
        except GitError as error:
            reason = str(error)
            if reference in _experiments(git, repository):
                continue  # another run was faster
            break
        say(f"recorded as experiment {got} of {base[:7]}")
        return got
    place = without_secrets(repository) or "this clone"
    raise PipelineError(f"{place}: the experiment could not be recorded: {reason}. The merged lock was written.")


def _experiments(git: Git, repository: str) -> dict[str, str]:
    """Commits of all experiments, by reference."""
    try:
        lines = git.run("ls-remote", repository or str(git.directory), "refs/exps/*").splitlines()
    except GitError as error:
        raise PipelineError(f"git could not read {without_secrets(repository)}: {error}.") from None
    return {reference: commit for commit, reference in (line.split("\t") for line in lines)}


def _free(git: Git, repository: str, taken: Mapping[str, str], base: str, commit: str, name: str) -> str:
    """`name`, or the first `name-2`, `name-3`... that no other run of any revision has: DVC looks runs up by name."""
    used = {reference.rpartition("/")[2]: reference for reference in taken}
    number, wanted = 1, name
    while wanted in used:
        reference = used[wanted]
        own = reference == f"refs/exps/{base[:2]}/{base[2:]}/{wanted}"
        if own and _same_run(git, repository, reference, taken[reference], commit):
            break
        number += 1
        wanted = f"{name}-{number}"
    return wanted


def _same_run(git: Git, repository: str, reference: str, other: str, commit: str) -> bool:
    """Whether two commits hold the same files: a publishing task that runs again finds its own work."""
    try:
        if repository:
            git.run("fetch", "--quiet", "--depth", "1", "--end-of-options", repository, reference)
        return git.run("rev-parse", f"{other}^{{tree}}") == git.run("rev-parse", f"{commit}^{{tree}}")
    except GitError:
        return False


def _write(git: Git, repository: str, reference: str, commit: str) -> None:
    if repository:
        git.run("push", "--quiet", f"--force-with-lease={reference}:", repository, f"{commit}:{reference}")
    else:
        git.run("update-ref", reference, commit, "0" * 40)
