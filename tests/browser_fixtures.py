"""A page in a browser. A plugin of the tests that ask for `browser`; they make `folder` and, in it, `page`."""

from collections.abc import Iterator

import pytest
from browser import Browser, open_browser


@pytest.fixture(scope="module")
def chromium(folder) -> Iterator[Browser]:
    with open_browser(folder / "profile", folder / "downloads") as browser:
        yield browser


@pytest.fixture
def browser(chromium, page) -> Iterator[Browser]:
    """The page, without any verdicts; in the end, it must not have complained or asked for anything."""
    chromium.resize(1280, 900)
    chromium.open(page)
    chromium.run("localStorage.clear()")
    chromium.complaints()
    chromium.open(page)
    yield chromium
    assert chromium.complaints() == []
    assert chromium.requested() == []
