"""Faults of file systems that no server here has: told by the status that they carry, and without credentials."""

import errno
import os
from pathlib import Path

import pytest

from pipeline.messages import PipelineError
from pipeline.storage.faults import Missing, Unavailable, told

NAME = "gs://bucket/prefix/key"


OF_FILES = (errno.ENOSPC, errno.EPERM, errno.EIO, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EDQUOT)


class FaultError(Exception):
    """As Google's and Azure's carry a status, and SSH's a code of its own."""

    def __init__(self, text="", **values):
        super().__init__(text)
        self.__dict__ |= values


def raised(error, local=None):
    with pytest.raises(Exception) as caught, told(NAME, local):  # noqa: PT011 -- which one is what is asked
        raise error
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        FaultError(code=503),
        FaultError(status_code=429),
        ConnectionResetError("reset"),
        TimeoutError(),
        FileNotFoundError(errno.ENOENT, "its folder is gone", "here"),
    ],
    ids=repr,
)
def test_these_may_pass(error):
    assert isinstance(raised(error, Path("here")), Unavailable)


@pytest.mark.parametrize("error", [FileNotFoundError("bucket/prefix/key"), FileNotFoundError(2, "no file", "there")])
def test_these_say_that_there_is_no_object(error):
    assert isinstance(raised(error, Path("here")), Missing)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FaultError(status_code=403), "403"),
        (FaultError("Host key is not trusted", code=9), "Host key is not trusted"),
        (FaultError("no answer of https://user:secret@host/x"), "no answer of https://***@host/x"),
        *((OSError(code, os.strerror(code), "here"), f"here: {os.strerror(code)}") for code in OF_FILES),
        *((OSError(code, os.strerror(code)), f"{NAME}: {os.strerror(code)}") for code in OF_FILES),
    ],
)
def test_these_stay(error, words):
    told_of = raised(error)
    assert isinstance(told_of, PipelineError)
    assert words in str(told_of)
    assert "secret" not in str(told_of)
    assert "AWS" not in str(told_of)


def test_a_fault_of_the_program_is_none_of_the_server():
    assert isinstance(raised(KeyError("x")), KeyError)
