import re
from pathlib import Path

import pytest

from components import reporting

STYLE = (Path(reporting.__file__).parent / "templates/colours.css").read_text()
LIGHT, DARK = STYLE.split("@media")


def colours(style):
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", style))


def contrast(first, second):
    """Of WCAG 2.2: from 1 to 21."""

    def luminance(colour):
        parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("style", [LIGHT, DARK])
def test_all_that_is_written_stands_out_from_what_it_is_written_on(style):
    found = colours(style)
    written = [name for name in found if name not in {"surface", "raised", "line"}]
    assert len(written) == 12
    for name in written:
        assert contrast(found[name], found["surface"]) >= 4.5, name
    for name in ("ink", "muted"):
        assert contrast(found[name], found["raised"]) >= 4.5, name


def test_light_and_dark_name_the_same_colours():
    assert colours(LIGHT).keys() == colours(DARK).keys()


def test_the_switch_brings_the_colours_of_the_readers_setting():
    by_setting, by_switch = DARK.split(':root[data-theme="dark"]')
    assert colours(by_setting) == colours(by_switch)
    assert len(colours(by_switch)) == len(colours(LIGHT))
