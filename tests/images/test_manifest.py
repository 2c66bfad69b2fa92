"""The manifest is read as it was written, or the error says what is wrong with it."""

from dataclasses import replace

import pytest

from components.images.manifest import COLUMNS, Entry, read_manifest, write_manifest
from components.run.errors import InputError

ENTRY = Entry("test", "set", "a", "set/a.png", "", 24, 32, "0" * 64, "0" * 16)


def test_it_reads_back(tmp_path):
    entries = [replace(ENTRY, name="b, \u00fc"), ENTRY]
    write_manifest(tmp_path / "manifest.csv", entries)
    assert read_manifest(tmp_path / "manifest.csv") == sorted(entries)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"height": 0}, "line 2.*height"),
        ({"width": "wide"}, "line 2.*width"),
        ({"sha256": "none"}, "line 2.*sha256"),
        ({"perceptual_hash": "0"}, "line 2.*perceptual_hash"),
        ({"split": "exam"}, "line 2.*split"),
    ],
)
def test_a_value_without_sense_is_told_with_its_line(tmp_path, values, reason):
    write_manifest(tmp_path / "manifest.csv", [replace(ENTRY, **values)])
    with pytest.raises(InputError, match=rf"manifest\.csv: {reason}"):
        read_manifest(tmp_path / "manifest.csv")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "its columns are None"),
        (b"a,b\n1,2\n", r"its columns are \['a', 'b'\]"),
        (",".join(COLUMNS).encode() + b"\n\xff\xfe\n", "not a manifest .*utf-8"),
        (",".join(COLUMNS).encode() + b'\n"a\n', "not a manifest .*unexpected end"),
        (",".join(COLUMNS).encode() + b"\ntest,set\n", "line 2"),
    ],
)
def test_what_is_no_manifest_is_told(tmp_path, content, reason):
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"(?s)manifest\.csv: .*{reason}"):
        read_manifest(tmp_path / "manifest.csv")
