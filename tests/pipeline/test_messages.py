"""What the commands tell people."""

import pytest

from pipeline.messages import did_you_mean, lines_of


@pytest.mark.parametrize(("last", "rest"), [(True, ["last"]), (False, [])])
def test_lines_of_a_log_are_whole_however_they_come(last, rest) -> None:
    pieces = [b"on", b"e\ntwo\n\xc3", b"\xa4\nlast"]
    assert list(lines_of(pieces, last=last)) == ["one", "two", "ä", *rest]


def test_a_known_name_is_guessed_only_where_one_is_near() -> None:
    assert did_you_mean("reprot", ["fetch", "report"]) == " Did you mean 'report'?"
    assert did_you_mean("x", ["fetch", "report"]) == ""
