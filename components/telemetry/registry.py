"""Students in MLflow's registry: each once, by DVC's hash of its weights; a task's best is its champion.

A version refers to DVC's copy of the weights, so that they are stored only once.
"""

import os
from collections.abc import Mapping
from configparser import ConfigParser, Error
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.run.secrets import without_secrets

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
HASH = "dvc.md5"


def model_name(task: str) -> str:
    """Name of the registered model of a task."""
    return f"restoration-{task}"


def register(client: "MlflowClient", run: "Run", event: Mapping[str, Any], *, remote: bool) -> None:
    """Register the student that a run measured, unless it is there already, and give the task's best the alias.

    Students are compared by PSNR on the first test set, if it and the protocol are the same.

    Args:
        client: a client of the server.
        run: the run on the server.
        event: `model` of its journal.
        remote: whether the server can't see our files, and so refuses their paths.
    """
    name = model_name(event["task"])
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    versions = list(client.search_model_versions(f"name = '{name}'"))
    same = [one for one in versions if one.tags.get(HASH) == event["md5"] and _compared(one.tags, event)]
    if not same:
        source = event["source"]
        if remote and "://" not in source:
            source = f"dvc://cache/{source[source.index('files/md5/') :]}"
        tags = {
            HASH: event["md5"],
            "dataset": event["dataset"],
            "protocol": event["protocol"],
            **{name: repr(value) for name, value in event["scores"].items()},
            **{tag: run.data.tags[tag] for tag in ("git.rev", "dvc.stage", "dvc.exp") if tag in run.data.tags},
        }
        made = client.create_model_version(name, source, run.info.run_id, tags=tags, await_creation_for=0)
        versions = [*client.search_model_versions(f"name = '{name}'")] or [made]
    rivals = [one for one in versions if _compared(one.tags, event)]
    best = max(rivals, key=lambda one: (float(one.tags["psnr"]), -int(one.version)))
    if str(client.get_registered_model(name).aliases.get(CHAMPION, "")) != str(best.version):
        client.set_registered_model_alias(name, CHAMPION, str(best.version))


def _compared(tags: Mapping[str, str], event: Mapping[str, Any]) -> bool:
    return "psnr" in tags and tags.get("dataset") == event["dataset"] and tags.get("protocol") == event["protocol"]


def stored_at(md5: str, project: Path, environment: Mapping[str, str] = os.environ) -> str:
    """Where DVC keeps a file: in its default remote if it has one, otherwise in its cache."""
    config = ConfigParser(interpolation=None)
    for file in ("config", "config.local"):
        try:
            config.read(project / ".dvc" / file, encoding="utf-8")
        except (Error, UnicodeDecodeError):
            continue
    remote = environment.get("DVC_REMOTE_URL") or config.get(
        f"'remote \"{config.get('core', 'remote', fallback='')}\"'", "url", fallback=""
    )
    cache = environment.get("DVC_CACHE_DIR") or config.get("cache", "dir", fallback="") or "cache"
    place = remote or str((project / ".dvc" / cache).absolute())
    if "://" not in place:
        place = str((project / ".dvc" / place).absolute())
    return f"{without_secrets(place.rstrip('/'), environment)}/files/md5/{md5[:2]}/{md5[2:]}"
