import itertools

import numpy as np
import pytest

from components.images.files import write_png
from components.images.metrics import to_luma
from components.reporting.places import choose_places, read_restored
from tests.reporting.findings import entry, findings

SCORES = {"bicubic": 30.0, "scratch": 31.0, "dckd": 31.5, "teacher": 32.0}
ENTRIES = [entry("only", "first", 70, 90), entry("only", "second", 64, 64), entry("only", "small", 20, 50)]


@pytest.fixture
def found(tmp_path):
    """Restored images that are gray, with a patch in which a network differs."""
    made = findings(SCORES, root=tmp_path, entries=ENTRIES)
    for one, contender in itertools.product(ENTRIES, made.contenders):
        image = np.full((one.height, one.width, 3), 100, np.uint8)
        seed = sum(map(ord, one.name + contender.name))
        image += np.random.default_rng(seed).integers(3, size=image.shape, dtype=np.uint8)
        write_png(contender.restored / one.dataset / f"{one.name}.png", image)
    return made


def paint(found, contender, one, rows, columns, value):
    path = next(x for x in found.contenders if x.name == contender).restored / one.dataset / f"{one.name}.png"
    image = read_restored(next(x for x in found.contenders if x.name == contender), one).copy()
    image[rows, columns] = value
    write_png(path, image)


def where(places):
    return [(place.entry.name, place.top, place.left) for place in places]


def brute_force(found, one, side, step):
    """Mean of largest minus smallest luma in every candidate, by looking at each."""
    networks = [contender for contender in found.contenders if contender.role != "baseline"]
    lumas = [to_luma(read_restored(network, one)) for network in networks]
    tops = [*range(0, one.height - side, step), (one.height - side) // 2 * 2]
    lefts = [*range(0, one.width - side, step), (one.width - side) // 2 * 2]
    return {
        (top, left): np.mean(
            [
                max(luma[row, column] for luma in lumas) - min(luma[row, column] for luma in lumas)
                for row in range(top, top + side)
                for column in range(left, left + side)
            ]
        )
        for top in tops
        for left in lefts
    }


def test_the_place_of_an_image_is_the_one_that_looking_at_every_candidate_finds(found):
    values = brute_force(found, ENTRIES[0], 32, 8)
    (place,) = choose_places(found, 1, 32, ENTRIES[:1])
    assert (place.top, place.left) == max(values, key=values.get)
    assert place.difference == pytest.approx(max(values.values()), abs=1e-6)


def test_a_place_where_one_network_differs_is_found_whichever_network_it_is(found):
    for number, name in enumerate(("scratch", "dckd", "teacher")):
        paint(found, name, ENTRIES[0], slice(0, 32), slice(16 * number, 16 * number + 32), 110 + 20 * number)
        assert where(choose_places(found, 1, 32, ENTRIES[:1])) == [("first", 0, 16 * number)]


def test_a_difference_of_the_baseline_counts_nothing(found):
    before = where(choose_places(found, 3, 32, ENTRIES))
    paint(found, "bicubic", ENTRIES[0], slice(38, 70), slice(58, 90), 255)
    assert where(choose_places(found, 3, 32, ENTRIES)) == before


def test_each_image_comes_once_before_any_comes_twice_and_larger_differences_come_first(found):
    paint(found, "dckd", ENTRIES[0], slice(0, 64), slice(0, 90), 150)
    paint(found, "dckd", ENTRIES[1], slice(0, 32), slice(0, 32), 200)
    places = choose_places(found, 5, 32, ENTRIES)
    assert [place.entry.name for place in places[:3]] == ["second", "first", "small"]
    assert [place.entry.name for place in places[3:]] == ["first", "second"]
    for one, other in itertools.combinations(places, 2):
        assert not one.overlaps(other)


def test_places_are_whole_degraded_pixels_inside_the_image(found):
    for place in choose_places(found, 9, 33, ENTRIES):
        assert place.top % 2 == place.left % 2 == place.height % 2 == place.width % 2 == 0
        assert place.top + place.height <= place.entry.height
        assert place.left + place.width <= place.entry.width
        assert (place.height, place.width) == ((20, 32) if place.entry.name == "small" else (32, 32))


def test_equal_differences_are_settled_by_image_row_and_column(found):
    for one, contender in itertools.product(ENTRIES, found.contenders):
        write_png(
            contender.restored / one.dataset / f"{one.name}.png", np.full((one.height, one.width, 3), 90, np.uint8)
        )
    expected = [("first", 0, 0), ("second", 0, 0), ("small", 0, 0), ("first", 0, 32)]
    assert where(choose_places(found, 4, 32, ENTRIES)) == expected
    assert where(choose_places(found, 4, 32, ENTRIES)) == expected
