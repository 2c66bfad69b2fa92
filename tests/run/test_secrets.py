"""No password or token is in what is written or shown, whatever it is a part of."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.run.secrets import without_secrets
from tests.planted import SECRET, TEXTS, is_in

HIDDEN = "s3cr3t/pa ss"


@pytest.mark.parametrize("text", TEXTS)
def test_it_is_in_no_text_that_an_address_or_a_header_is_part_of(text):
    assert is_in(text)
    shown = without_secrets({text: [f"before {text} after"]}, {})
    assert not is_in(str(shown))
    assert without_secrets(shown, {}) == shown
    assert "***" in str(shown)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://me:word@host:5000/x", "http://***@host:5000/x"),
        ("postgresql://u:p%40w@db/x failed", "postgresql://***@db/x failed"),
        ("https://host/x?X-Amz-Signature=abc&y=1", "https://host/x?X-Amz-Signature=***&y=1"),
        (f"is {HIDDEN}, says", "is ***, says"),
        ("s3cr3t%2Fpa%20ss and s3cr3t%2Fpa+ss and s3cr3t/pa%20ss", "*** and *** and ***"),
        ("a trailing newline of its variable", "*** of its variable"),
        ("Zeb/raPass of an address, and Zeb%2FraPass", "*** of an address, and ***"),
        ("no scheme: lon3lyPass", "no scheme: ***"),
    ],
)
def test_all_else_of_the_text_stays(text, expected):
    environment = {
        "MLFLOW_TRACKING_PASSWORD": HIDDEN,
        "OTHER_TOKEN": "a trailing newline\n",
        "DVC_REMOTE_URL": "ssh://user:Zeb%2FraPass@host/x",
        "HTTPS_PROXY": "user:lon3lyPass@proxy:8080",
    }
    assert without_secrets(text, environment) == expected


@pytest.mark.parametrize(
    "text",
    [
        "git@host:x.git and ssh://git@host/x.git",
        "http://host:8080/a@b and https://host/package@v1",
        "s3://bucket/a@b?versionId=3 and file:///a/b@c and sqlite:////a/b@c.db",
        "dvc.yaml:evaluate@sr-dckd-3, image:tag@sha256:abc",
        "steps: 100, learning_rate@x, --set KEY=VALUE, design=3",
        "one, mlflow, steps, /run/token and https://host/login are values of variables that hold none",
    ],
)
def test_what_is_no_secret_stays(text):
    environment = {
        "OTHER_TOKEN": "one",
        "HOME": "steps",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/run/token",
        "TOKEN_URL": "https://host/login",
        "MLFLOW_BACKEND_STORE_URI": "postgresql://mlflow:mlflow@db/mlflow",
    }
    assert without_secrets(text, environment) == text


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PGPASSWORD", "AZURE_STORAGE_KEY", "MY_APIKEY"]
)
def test_the_value_of_a_secret_variable_is_hidden_wherever_it_stands(name):
    text = f"a {SECRET}, b{quote(SECRET, safe='')}"
    assert without_secrets(text, {name: SECRET}) == "a ***, b***"


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=6))
def test_no_value_of_a_secret_variable_survives(value):
    assert set(value) == {"*"} or value not in without_secrets(f"<{value}>", {"API_KEY": value})
