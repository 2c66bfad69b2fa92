"""Write what the build needs of this machine's pip settings into a folder: pip.conf, certificates.crt and wheels.txt.

`pip config list` knows all settings: those of the machine, the user and the environment, and PIP_* variables. This
machine's paths mean nothing inside the build: the certificates get a file of their own (empty where no setting names
one), folders of wheels are listed for the caller, indexes on this disk are left out with a notice.
pip.conf may hold passwords: hand it to the build as a secret.
"""

import ast
import configparser
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

CERTIFICATES_IN_BUILD = "/run/secrets/certificates"
ADDRESSES = ("index-url", "extra-index-url", "find-links")
AS_THEY_ARE = ("default-timeout", "no-index", "prefer-binary", "proxy", "retries", "timeout", "trusted-host")


def read_settings() -> dict[str, str]:
    """Return the settings of `pip install`, the environment's before those of files."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in sections:
            sections[section][key] = str(ast.literal_eval(value))
    return sections["global"] | sections["install"] | sections[":env:"]


def local_path(address: str) -> Path | None:
    """Return the folder that an entry of a list of indexes or wheels names, None if it lies on another machine."""
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme else Path(address)


def write_settings(folder: Path) -> None:
    """Write the three files into `folder`."""
    settings = read_settings()
    kept = {key: settings[key] for key in AS_THEY_ARE if key in settings}
    wheels = []
    for key in ADDRESSES:
        addresses = settings.get(key, "").split()
        for path in filter(None, map(local_path, addresses)):
            if key == "find-links" and path.is_dir():
                wheels.append(path)
            else:
                sys.stderr.write(f"the build does without pip's {key} {path}, which lies on this machine's disk\n")
        elsewhere = [address for address in addresses if local_path(address) is None]
        if elsewhere:
            kept[key] = "\n".join(elsewhere)
    certificates = settings.get("cert") or os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE")
    if certificates:
        kept["cert"] = CERTIFICATES_IN_BUILD
    parser = configparser.RawConfigParser()
    parser["global"] = kept
    with (folder / "pip.conf").open("w", encoding="utf-8") as file:
        parser.write(file)
    (folder / "certificates.crt").write_bytes(Path(certificates).read_bytes() if certificates else b"")
    (folder / "wheels.txt").write_text("".join(f"{path}\n" for path in wheels), encoding="utf-8")


if __name__ == "__main__":
    write_settings(Path(sys.argv[1]))
