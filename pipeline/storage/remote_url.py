"""Where DVC's remote is: the environment says it, so that no address stands in git."""

import os
import re
from pathlib import Path

from pipeline.messages import PipelineError
from pipeline.project import endpoint_fault

VARIABLE = "DVC_REMOTE_URL"
PACKAGES = {"s3": "dvc-s3", "gs": "dvc-gs", "azure": "dvc-azure", "ssh": "dvc-ssh"}
"""The kinds of remotes, by their schemes, and DVC's package for each."""

_OF_SSH = re.compile(r"[^/]+@[^/]+:")


def remote_url() -> str | None:
    """The URL, or the absolute path of a folder; None where the environment names no remote.

    Raises:
        PipelineError: a URL of another kind, or one that is not whole, or AWS_ENDPOINT_URL is no address.
    """
    url = os.environ.get(VARIABLE)
    if not url:
        return None
    scheme, _, rest = url.partition(":")
    if scheme not in PACKAGES and "://" not in url and not _OF_SSH.match(url):
        return str(Path(url).absolute())
    if scheme not in PACKAGES or not re.match(r"//[^/]", rest):
        kinds = ", ".join(f"{one}://" for one in PACKAGES)
        raise PipelineError(f"{VARIABLE}: {url}: expected s3://BUCKET/PREFIX or a folder's path; known: {kinds}.")
    if scheme == "s3" and (fault := endpoint_fault()):
        raise PipelineError(fault)
    return url
