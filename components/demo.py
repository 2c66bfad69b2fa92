"""Command: a local page to drop a picture on, with a slider between input, student and teacher (`make demo`)."""

import argparse
import importlib.util
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from components.run.errors import InputError
from components.run.step import faults_told

_LOG = logging.getLogger(__name__)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def demo(data: Path, host: str = "127.0.0.1", port: int = 8765, megabytes: float = 20, megapixels: float = 1) -> None:
    """Serve the page until it is stopped.

    Args:
        data: folder that the stages wrote to.
        host: address to listen on; only this machine reaches the default.
        port: to listen on.
        megabytes: of the largest file accepted.
        megapixels: of the largest picture accepted; teachers are slow.

    Raises:
        InputError: a limit is no size, or the packages of the page are not installed.
    """
    for flag, value in (("--megabytes", megabytes), ("--megapixels", megapixels)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{flag} {value}: has to be a number above 0.")
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"the page needs {', '.join(missing)}: install them with `pip install -e '.[demo]'`.")
    import uvicorn  # noqa: PLC0415

    from components.use.page import make_page  # noqa: PLC0415

    if host not in _LOOPBACK:
        _LOG.warning("whoever reaches %s on port %d can use the page; it asks for no password", host, port)
    page = make_page(data, int(megabytes * 1e6), int(megapixels * 1e6), anywhere=host not in _LOOPBACK)
    _LOG.info("open http://%s:%d (Ctrl-C stops it)", f"[{host}]" if ":" in host else host, port)
    uvicorn.run(page, host=host, port=port, log_level="warning")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m components demo", description="A local page to try students on.")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the stages (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="(default: %(default)s)")
    parser.add_argument("--megabytes", type=float, default=20, help="largest file (default: %(default)s)")
    parser.add_argument("--megapixels", type=float, default=1, help="largest picture (default: %(default)s)")
    flags = parser.parse_args(arguments)
    with faults_told():
        demo(flags.data, flags.host, flags.port, flags.megabytes, flags.megapixels)


if __name__ == "__main__":
    main()
