"""Pages that were written before: the last that were asked for, within a bound."""

import tracemalloc

from keelway_api.models.pages import WrittenPage, WrittenPages
from keelway_api.statements import Statement

KIB = 1024
MARKS = Statement(b"SELECT 1", ())


def page(marks: str = "m", body: bytes = bytes(9 * KIB)) -> WrittenPage:
    return WrittenPage(marks, body, MARKS, {"value_0": "a"})


def test_those_that_nobody_asked_for_go_first():
    pages = WrittenPages(max_bytes=35 * KIB)
    for name in ("one", "two", "three"):
        pages.keep(name, page())
    assert pages.find("one")

    pages.keep("four", page())

    assert [bool(pages.find(name)) for name in ("one", "two", "three", "four")] == [True, False, True, True]


def test_one_that_is_written_again_takes_the_place_of_the_one_before():
    pages = WrittenPages(max_bytes=35 * KIB)
    pages.keep("other", page())
    for number in range(100):
        pages.keep("one", page(str(number)))

    assert pages.find("other")
    assert pages.find("one") == page("99")


def test_what_is_too_large_is_not_kept():
    pages = WrittenPages(max_bytes=5 * KIB)
    pages.keep("one", page())
    assert pages.find("one") is None
    pages.keep("small", page(body=b"x"))
    assert pages.find("small")


def test_one_with_large_filters_is_as_large_as_they_are():
    assert WrittenPage("m", b"body", MARKS, {"value_0": "x" * 9 * KIB}).size_bytes > 9 * KIB


def test_what_was_asked_for_takes_no_memory_however_long_it_is():
    pages = WrittenPages(max_bytes=35 * KIB)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]

    for number in range(30):
        pages.keep(("tag", "x" * KIB**2 + str(number)), page(body=b"body"))

    assert tracemalloc.get_traced_memory()[0] - before < 100 * KIB
    tracemalloc.stop()
    assert pages.find(("tag", "x" * KIB**2 + "29"))
    assert pages.find(("tag", "x" * KIB**2 + "30")) is None
