"""Remove passwords and tokens from whatever is written or shown."""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

HIDDEN = "***"
_NAMES = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|ACCESS_KEY|API_KEY|PRIVATE_KEY|CREDENTIAL", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s\"']*@")
_IN_QUERY = re.compile(
    r"(?<=[?&])([^=&\s]*(?:token|signature|key|credential|password)[^=&\s]*)=[^&\s\"']+", re.IGNORECASE
)
_SHORTEST = 6  # shorter values may be words that occur elsewhere too


def without_secrets(value: Any, environment: Mapping[str, str] = os.environ) -> Any:
    """`value`, a text or nested lists and mappings of texts, with `***` in place of secrets.

    Secrets are what precedes the @ of an address, signed queries, and the values of environment variables whose names
    mention passwords, tokens, secrets or keys.
    """
    if isinstance(value, Mapping):
        return {without_secrets(key, environment): without_secrets(one, environment) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(one, environment) for one in value]
    if not isinstance(value, str):
        return value
    for secret in _secrets(environment):
        value = value.replace(secret, HIDDEN)
    return _IN_QUERY.sub(rf"\1={HIDDEN}", _IN_ADDRESS.sub(f"{HIDDEN}@", value))


def _secrets(environment: Mapping[str, str]) -> list[str]:
    """The secrets, longest first, so that one within another leaves no remainder."""
    found = {value for name, value in environment.items() if _NAMES.search(name) and len(value) >= _SHORTEST}
    return sorted(found | {quote(value, safe="") for value in found}, key=len, reverse=True)
