"""How a command refuses what it is given."""

from pipeline.__main__ import main


def refusal(words, capsys):
    """The one line with which a command ends, exit code 2; anything else as a text that no test expects."""
    try:
        code = main([str(word) for word in words])
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a test's assertion tells it
        return f"ended by {error!r}"
    told = capsys.readouterr()
    if code != 2 or told.err.count("\n") != 1:
        return f"ended with {code}: {told.out}{told.err}"
    return told.err.removeprefix("error: ").rstrip("\n")
