"""Where DVC's remote is: the environment says it, so that no address stands in git."""

import os
from pathlib import Path

from pipeline.messages import PipelineError
from pipeline.project import endpoint_fault

VARIABLE = "DVC_REMOTE_URL"


def remote_url() -> str | None:
    """The URL, or the absolute path of a folder; None where the environment names no remote.

    Raises:
        PipelineError: it lies in S3, and AWS_ENDPOINT_URL is no address.
    """
    url = os.environ.get(VARIABLE)
    if not url:
        return None
    if url.startswith("s3://") and (fault := endpoint_fault()):
        raise PipelineError(fault)
    return url if "://" in url else str(Path(url).absolute())
