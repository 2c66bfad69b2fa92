"""What pipeline/ knows of this project's own steps stands in one file."""

import argparse
import functools
import importlib
import re

import pytest

from pipeline.__main__ import COMMANDS
from tests.pipeline.toy import ROOT

KNOWS = ROOT / "pipeline/project.py"
FILES = sorted(file for file in (ROOT / "pipeline").rglob("*.py") if file != KNOWS)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


@functools.cache
def flags_of_steps():
    """Flags in the commands of dvc.yaml, and the page's own, but for those that commands of pipeline/ have as well."""
    own = set()
    for name, _ in COMMANDS.values():
        parser = argparse.ArgumentParser()
        importlib.import_module(f"pipeline.{name}").add_arguments(parser)
        own |= set(parser._option_string_actions)
    return {*FLAG.findall((ROOT / "dvc.yaml").read_text()), "--circumstances"} - own


STEPS = re.compile(
    r"(?<![\w.])components\.|\b(from|import) components\b"  # not kfp's components
    r"|psnr|ssim|(?<![\w./])data/",
    re.IGNORECASE,
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_other_file_knows_a_step_its_flags_its_folders_or_its_scores(file):
    text = file.read_text()
    assert not STEPS.search(text)
    assert not set(FLAG.findall(text)) & flags_of_steps()


def test_that_one_does():
    text = KNOWS.read_text()
    assert STEPS.search(text)
    assert {"--scores", "--circumstances"} <= set(FLAG.findall(text)) & flags_of_steps()
