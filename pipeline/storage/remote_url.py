"""Where DVC's remote is: the environment says it, so that no address stands in git."""

import os
from pathlib import Path

VARIABLE = "DVC_REMOTE_URL"


def remote_url() -> str | None:
    """The URL, or the absolute path of a folder; None where the environment names no remote."""
    url = os.environ.get(VARIABLE)
    if not url:
        return None
    return url if "://" in url else str(Path(url).absolute())
