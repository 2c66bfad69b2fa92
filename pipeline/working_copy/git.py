"""Git through its command line: revisions of a repository, without a prompt or credentials in any message."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.messages import PipelineError, did_you_mean
from pipeline.project import without_secrets

_SHALLOW = ("--depth", "1", "--no-tags")
_ALL = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


# Asks the environment who reads a repository, which a cluster's tasks have from a Secret, and keeps no answer.
_HELPER = (
    """!f() { test "$1" = get && printf 'username=%s\\npassword=%s\\n' "${GIT_USERNAME:-git}" "$GIT_PASSWORD"; }; f"""
)


class GitError(PipelineError):
    """Git ended with an error; its text, without credentials, is the message."""


class Git:
    """Commands on one git directory."""

    def __init__(self, directory: Path, settings: Path | None = None) -> None:
        """Take the git directory (`.git`, or a bare repository), and a file in place of the user's settings."""
        self.directory = directory
        self.environment = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        if settings:
            self.environment["GIT_CONFIG_GLOBAL"] = str(settings)

    def run(self, *words: str, text: str | None = None, environment: Mapping[str, str] | None = None) -> str:
        """Run `git WORDS` and return what it prints, stripped.

        Raises:
            GitError: it failed.
        """
        settings = ["core.hooksPath=/dev/null"]
        if os.environ.get("GIT_PASSWORD"):
            settings += ["credential.helper=", f"credential.helper={_HELPER}"]
        flags = [word for setting in settings for word in ("-c", setting)]
        ended = subprocess.run(
            ["git", f"--git-dir={self.directory}", *flags, *words],
            env={**os.environ, **self.environment, **(environment or {})},
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise GitError(without_secrets(" ".join(ended.stderr.split())) or f"git ended with {ended.returncode}")
        return ended.stdout.strip()

    def commit(self, revision: str) -> str | None:
        """Full name of the commit that a revision means, or None."""
        try:
            return self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        except GitError:
            return None

    def guess(self, revision: str) -> str:
        """A sentence, after a space, on which branch or tag an unknown revision may have meant; or nothing."""
        return did_you_mean(revision, self.run("for-each-ref", "--format=%(refname:short)").split())

    def write_tree(self, commit: str, folder: Path) -> None:
        """Write a commit's files into an existing folder."""
        with TemporaryDirectory() as place:  # the clone's own index stays as it is
            words = (f"--work-tree={folder}", "checkout", "--quiet", "--force", commit, "--", ".")
            self.run(*words, environment={"GIT_INDEX_FILE": str(Path(place, "index"))})


def project_git(folder: Path) -> Git | None:
    """The repository whose root is `folder`, or None."""
    directory = folder / ".git"
    if not directory.exists():
        return None
    return Git(directory if directory.is_dir() else Path(Git(directory).run("rev-parse", "--absolute-git-dir")))


def fetch_commit(repository: str, revision: str, directory: Path) -> tuple[Git, str]:
    """Fetch a revision into a new bare git directory, on its own if the server allows that.

    Args:
        repository: URL or path; its credentials are stored nowhere.
        revision: branch, tag or commit.
        directory: an absent folder.

    Returns:
        The git directory and the commit's full name.

    Raises:
        PipelineError: the repository can't be read, or has no such revision.
    """
    Git(directory).run("init", "--quiet", "--bare")
    git = Git(directory, _trusting(repository, directory / "settings"))
    try:
        git.run("fetch", "--quiet", *_SHALLOW, "--end-of-options", repository, revision)
        return git, git.run("rev-parse", "FETCH_HEAD^{commit}")
    except GitError:
        pass  # an abbreviated commit, or one that the server does not give on its own
    finally:
        (directory / "FETCH_HEAD").unlink(missing_ok=True)
    try:
        git.run("fetch", "--quiet", "--end-of-options", repository, *_ALL)
    except GitError as error:
        raise PipelineError(
            f"git could not read {without_secrets(repository)}: {error}. "
            "Check --repository, the network, and GIT_USERNAME and GIT_PASSWORD, which a cluster takes from a Secret."
        ) from None
    finally:
        (directory / "FETCH_HEAD").unlink(missing_ok=True)
    commit = git.commit(revision)
    if commit is None:
        place = without_secrets(repository)
        raise PipelineError(
            f"--revision {revision}: no branch, tag or commit of {place}.{git.guess(revision)} Push it first."
        )
    return git, commit


def _trusting(repository: str, settings: Path) -> Path | None:
    """Settings that let git read another user's repository on this machine, because it was asked for by name.

    A container's user owns nothing that is mounted. Git takes this permission only from the user's settings.
    """
    repository = repository.removeprefix("file://")
    if not Path(repository).is_dir():
        return None
    home = Path.home()
    own = [os.environ.get("GIT_CONFIG_GLOBAL", ""), str(home / ".config" / "git" / "config"), str(home / ".gitconfig")]
    for key, values in {"include.path": own, "safe.directory": [repository, f"{repository}/.git"]}.items():
        for value in filter(None, values):
            Git(settings.parent).run("config", "--file", str(settings), "--add", key, str(Path(value).absolute()))
    return settings
