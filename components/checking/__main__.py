"""Check the whole project in the working directory; a verdict that is known costs nothing.

Every command of `pipeline` and every step begins with it.
"""

import argparse
import resource
from pathlib import Path

from components.dependencies import verdict

_MEMORY = 4 * 2**30
"""Bytes; what is built has no weights, so that only a senseless number needs more."""


def main() -> None:
    """Exit with 0 if nothing of params.yaml and dvc.yaml must fail, otherwise with 2 and a line for each fault."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {verdict.CHECK}", description="Check the whole of params.yaml, before anything runs."
    )
    parser.add_argument(
        "--verdicts", type=Path, default=verdict.KEPT, metavar="FOLDER", help="of those known (default: %(default)s)"
    )
    kept = parser.parse_args().verdicts
    key = verdict.key_of(Path())
    if verdict.is_known(key, kept):
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most), most))
    # torch and the steps take seconds to import.
    from components.checking.whole import refuse_faults  # noqa: PLC0415
    from components.run.step import faults_told  # noqa: PLC0415

    with faults_told():
        refuse_faults()
    verdict.keep(key, kept)


if __name__ == "__main__":
    main()
