"""Remove passwords and tokens from whatever is written or shown."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"
_NAMES = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|TOKEN|SECRET|CREDENTIAL|CONNECTION_STRING|(?:ACCESS|API|PRIVATE|ACCOUNT|STORAGE)_?KEY",
    re.IGNORECASE,
)
_PLACES = re.compile(r"_(?:FILE|PATH|DIR|URI|URL)$", re.IGNORECASE)  # of secrets, and none themselves
_ADDRESSES = re.compile(r"URL|URI|PROXY|HOST|ENDPOINT", re.IGNORECASE)
_SHORTEST = 6  # shorter values may be words that occur elsewhere too

_SCHEME = r"(?P<scheme>[a-z][a-z0-9+.-]*)?"
_USERS = tuple(
    re.compile(text, re.IGNORECASE | re.VERBOSE)
    for text in (
        # A password may hold a slash that nobody escaped; `host:8080/a@b` has none.
        rf"""{_SCHEME}(?P<mark>://)(?P<user>[^\s"'<>/:@]*:(?!\d+(?:[/?\#]|$))[^\s"'<>]*|[^\s"'<>/]*)(?P<at>@)""",
        rf"""{_SCHEME}(?P<mark>%3A%2F%2F)(?P<user>(?:(?!%2F|%3A%2F)[^\s"'<>/?&])*)(?P<at>%40)""",
    )
)
_FIELDS = tuple(
    re.compile(text, re.IGNORECASE | re.VERBOSE)
    for text in (
        r"""(?P<before>[?&;\#]|\\u0026)(?P<name>[^=?&;\#\s"'<>\\]+)(?P<equals>=)(?P<value>[^&;\#\s"'<>\\]+)""",
        r"""(?P<before>%3F|%26|%3B|%23)(?P<name>(?:(?!%3D|%26)[^=&\s"'<>])+)(?P<equals>%3D)
        (?P<value>(?:(?!%26|%3B|%23)[^&\s"'<>])+)""",
    )
)
_SECRET_FIELD = re.compile(
    r".*(?:token|signature|key|credential|password|passwd|secret).*|sig|pwd|pass|auth|code|jwt", re.IGNORECASE
)
_USER_OF_SSH = re.compile(r"(?:.*\+)?(?:ssh|sftp)", re.IGNORECASE)
_HEADER = re.compile(
    r"""((?:authorization|(?:private|job|auth|security)-token|x-api-key)["']?\s*[:=]\s*["']?
    (?:(?:basic|bearer|token)\s+)?)[^\s"',;]+""",
    re.IGNORECASE | re.VERBOSE,
)


def without_secrets(value: Any, environment: Mapping[str, str] = os.environ) -> Any:
    """`value`, a text or nested lists and mappings of texts, with `***` in place of secrets.

    Secrets are the user and password of an address, tokens and signatures in its query, credentials in a request's
    headers, and, wherever they stand, the values of environment variables whose names mention passwords, tokens,
    secrets or keys, and the passwords in addresses that are values of others. The user alone of an address of SSH is
    none.
    """
    return _hidden(value, _secrets(environment))


def _hidden(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {_hidden(key, secrets): _hidden(one, secrets) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(one, secrets) for one in value]
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, HIDDEN)
    for pattern in _USERS:
        value = pattern.sub(_hidden_user, value)
    for pattern in _FIELDS:
        value = pattern.sub(_hidden_field, value)
    return _HEADER.sub(rf"\1{HIDDEN}", value)


def _hidden_user(found: re.Match[str]) -> str:
    if _USER_OF_SSH.fullmatch(found["scheme"] or "") and ":" not in unquote(found["user"]):
        return found[0]
    return f"{found['scheme'] or ''}{found['mark']}{HIDDEN}{found['at']}"


def _hidden_field(found: re.Match[str]) -> str:
    if not _SECRET_FIELD.fullmatch(unquote(found["name"])):
        return found[0]
    return f"{found['before']}{found['name']}{found['equals']}{HIDDEN}"


def _secrets(environment: Mapping[str, str]) -> list[str]:
    """The secrets as they may be written, longest first, so that one within another leaves no remainder."""
    named = {value for name, value in environment.items() if _NAMES.search(name) and not _PLACES.search(name)}
    addresses = (
        value if "://" in value or not _ADDRESSES.search(name) else f"://{value}" for name, value in environment.items()
    )
    values = named | {password for address in addresses for password in _passwords(address)}
    written = {
        form
        for value in values
        for bare in (value, value.strip(), " ".join(value.split()))
        for form in (bare, unquote(bare), quote(bare), quote(bare, safe=""), quote_plus(bare), json.dumps(bare)[1:-1])
    }
    return sorted((form for form in written if len(form) >= _SHORTEST), key=len, reverse=True)


def _passwords(value: str) -> Iterator[str]:
    """The password in an address, and the secrets in its query."""
    for found in _USERS[0].finditer(value):
        user, _, password = found["user"].partition(":")
        if password != user:  # a word that stands for both is one that occurs elsewhere too
            yield password
    yield from (found["value"] for found in _FIELDS[0].finditer(value) if _SECRET_FIELD.fullmatch(found["name"]))
