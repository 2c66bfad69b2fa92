"""What deploy/compose starts, without containers: PostgreSQL, an S3 server, and the server by its own start script."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START = ROOT / "deploy" / "compose" / "start.sh"
NAME, WORD = "admin", "planted-admin-word"
DATABASE_WORD = "planted-database-word"
STORE = {
    "AWS_ACCESS_KEY_ID": "planted-key",
    "AWS_SECRET_ACCESS_KEY": "planted-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}
ACCOUNTS = importlib.util.find_spec("flask_wtf") is not None


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def postgres_binaries():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        pytest.skip("no PostgreSQL under /usr/lib/postgresql")
    return found[-1]


def as_other_user(folder):
    """Words before a command of PostgreSQL, which refuses to run as root."""
    if os.geteuid():
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


@contextlib.contextmanager
def postgres():
    """A cluster of its own in a new folder; yields the port. User mlflow, databases mlflow and accounts."""
    binaries = postgres_binaries()
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own folders are closed to other users
    try:
        words, port = as_other_user(folder), free_port()
        secret = folder / "word"
        secret.write_text(DATABASE_WORD)
        secret.chmod(0o644)

        def run(*command, **given):
            subprocess.run([*words, *command], check=True, capture_output=True, timeout=120, cwd=folder, **given)

        run(binaries / "initdb", "-D", folder / "data", "-U", "mlflow", "--auth=scram-sha-256", "--no-sync",
            f"--pwfile={secret}")  # fmt: skip
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        control = [binaries / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-w"]
        run(*control, "-o", options, "start")
        try:
            for name in ("mlflow", "accounts"):
                run(binaries / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", name,
                    env=os.environ | {"PGPASSWORD": DATABASE_WORD})  # fmt: skip
            yield port
        finally:
            run(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def process(command, environment, address, log):
    """Run a server until its address answers, and then for as long as it is needed."""
    with (
        log.open("wb") as file,
        subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, cwd=log.parent, start_new_session=True
        ) as server,
    ):
        try:
            end = time.monotonic() + 300
            while True:
                assert server.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < end, log.read_text()[-3000:]
                with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
                    break
                time.sleep(0.25)
            yield
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # nothing of it is kept, and it takes ten seconds to say goodbye
            server.wait(30)


@contextlib.contextmanager
def backend(folder):
    """Yields the server's address, the S3 server's, and PostgreSQL's port."""
    store, port = f"http://127.0.0.1:{free_port()}", free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
    clean |= STORE | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
    script = START.read_text()
    if not ACCOUNTS:
        script = script.replace(" --app-name basic-auth", "")
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(postgres())
        moto = [sys.executable, "-m", "moto.server", "-p", store.rpartition(":")[2]]
        stack.enter_context(process(moto, clean, f"{store}/moto-api/", folder / "store.log"))
        uri = f"postgresql+psycopg2://mlflow:{DATABASE_WORD}@127.0.0.1:{database}"
        (folder / "accounts.ini").write_text(f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {uri}/accounts\n")
        settings = {
            "MLFLOW_BACKEND_STORE_URI": f"{uri}/mlflow",
            "MLFLOW_ARTIFACTS_DESTINATION": "s3://mlflow/runs",
            "MLFLOW_S3_ENDPOINT_URL": store,
            "MLFLOW_AUTH_CONFIG_PATH": str(folder / "accounts.ini"),
            "MLFLOW_AUTH_ADMIN_USERNAME": NAME,
            "MLFLOW_AUTH_ADMIN_PASSWORD": WORD,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "planted-session-key",
            "PORT": str(port),
            "WORKERS": "1",
        }
        address = f"http://127.0.0.1:{port}"
        server = process(["sh", "-c", script], clean | settings, f"{address}/health", folder / "server.log")
        stack.enter_context(server)
        yield address, store, database
