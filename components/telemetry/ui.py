"""The page of the tracked runs: the server's own, or one for the database in the project's folder."""

import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser

from components.run.errors import InputError
from components.telemetry.follow import shown
from components.telemetry.settings import Settings

PORT = "5000"
_SECONDS = 120.0


def serve(settings: Settings) -> int:
    """Print the address of the page, and serve it until Ctrl-C if no server does.

    Returns:
        The exit code.

    Raises:
        InputError: the port is none or taken, or the server does not start.
    """
    if settings.server.startswith(("http://", "https://")):
        _open(shown(settings.server))
        return 0
    text = os.environ.get("PORT", PORT)
    port = int(text) if text.isascii() and text.isdigit() else 0
    if not 0 < port < 1 << 16:
        raise InputError(f"PORT: {text!r} is no port: write a number from 1 to 65535, as in PORT=5001 make ui.")
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(f"PORT: {port} is not free ({error.strerror}); set another: PORT=5001 make ui") from None
    sys.stdout.write("The page takes half a minute to start ...\n")
    sys.stdout.flush()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": settings.server,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # nine more processes, for features not used here
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server must not keep running
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            if not _listens(port, server):
                raise InputError(f"the page did not start: `{sys.executable} -m mlflow server --port {port}` says why.")
            _open(f"http://127.0.0.1:{port}")
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            server.terminate()


def _listens(port: int, server: "subprocess.Popen[bytes]") -> bool:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.5)
    return False


def _open(address: str) -> None:
    sys.stdout.write(f"Runs: {address}   (Ctrl-C ends it)\n")
    sys.stdout.flush()
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform == "darwin":
        webbrowser.open(address)
