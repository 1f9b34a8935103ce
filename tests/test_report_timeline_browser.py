"""The timeline of `report.html` in a browser: bars that are clicked, reached by keys, and readable."""

from dataclasses import replace
from pathlib import Path

import pytest
from browser import Browser, browser_problem
from PIL import Image
from sighting_samples import PATTERN, dated, frame, result_of

from qeeps_cli.output.json_writer import dump, search_document
from qeeps_cli.output.report import report_of_results
from qeeps_cli.sightings.of_result import SightingRules, with_sightings

pytest_plugins = ["browser_fixtures"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_problem() is not None, reason=f"needs a browser: {browser_problem()}"),
]

WEIGHTS = {"name": "tiny", "digest": "sha256:00ff"}
# gate was passed at 0 and at 40 s, the yard at 5 s; a video shows the person, too. Ranks are the places in this list.
FRAMES = [
    *(dated("gate", seconds) for seconds in (0, 6, 40)),
    *(dated("yard <b>", seconds) for seconds in (5, 9)),
    *(frame("hall.mp4", seconds) for seconds in (1.0, 90.0)),
]
BARS = {"gate": ("m1-1", "m1-3"), "yard": ("m1-4",), "hall": ("m1-6", "m1-7")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("timeline")
    Image.new("RGB", (80, 60), "teal").save(folder / "q.png")
    return folder


def write(folder: Path, name: str, frames) -> Path:
    """The page of a search that found the person in these frames, in the order of ranks."""
    scores = [0.99 - 0.4 * place / len(frames) for place in range(len(frames))]
    rules = SightingRules(time_pattern=PATTERN)
    result = with_sightings(result_of(frames, scores), rules, rules.timetable(frames))
    document = search_document(replace(result, query=replace(result.query, image=folder / "q.png")), WEIGHTS, "exact")
    path = folder / name
    path.write_bytes(report_of_results(dump(document), "results.json", lambda name: b"").html)
    return path


@pytest.fixture(scope="module")
def page(folder) -> Path:
    return write(folder, "page.html", FRAMES)


def shown(browser: Browser) -> list[int]:
    """The ranks that can be seen."""
    script = "return [...document.querySelectorAll('.card')].filter((c) => c.offsetHeight).map((c) => c.id.slice(3))"
    return [int(rank) for rank in browser.run(script)]


def focused(browser: Browser) -> str | None:
    """What the bar that has the focus leads to."""
    return browser.run("return document.activeElement.getAttribute('href')")


def chosen(browser: Browser) -> list[str]:
    script = "return [...document.querySelectorAll('.sighting[aria-current]')].map((b) => b.getAttribute('href'))"
    return browser.run(script)


def current(browser: Browser) -> str | None:
    return browser.run("return document.querySelector('.card[aria-current]')?.id ?? null")


def bar(id: str) -> str:
    return f".sighting[href='#{id}']"


def test_bars_stand_in_the_lane_of_their_camera_by_time(browser):
    script = """
    return [...document.querySelectorAll('.lanes')].map((lanes) => [...lanes.querySelectorAll('.lane:not(.axis)')].map(
      (lane) => [lane.querySelector('.camera').textContent, ...[...lane.querySelectorAll('.sighting')].map((bar) => {
        const box = bar.querySelector('.bar-line').getBoundingClientRect();
        const lane = bar.parentNode.getBoundingClientRect();
        return [bar.getAttribute('href').slice(1), (box.left - lane.left) / lane.width, box.width / lane.width];
      })]))"""
    dates, videos = browser.run(script)
    (gate, (first, left, width), (second, right, point)), (yard, (third, middle, _)) = dates
    assert (gate, yard, first, second, third) == ("gate", "yard <b>", *BARS["gate"], *BARS["yard"])
    assert left == pytest.approx(0.015, abs=0.01) and width == pytest.approx(0.97 * 6 / 40, abs=0.03)
    assert middle == pytest.approx(0.015 + 0.97 * 5 / 40, abs=0.02)
    assert right == pytest.approx(0.985, abs=0.02) and point < 0.03
    assert [lane[0] for lane in videos] == ["hall.mp4"] and [one[0] for one in videos[0][1:]] == list(BARS["hall"])


def test_a_click_shows_only_the_matches_of_a_sighting(browser):
    assert shown(browser) == [1, 2, 3, 4, 5, 6, 7]
    browser.click(bar("m1-1"))
    assert shown(browser) == [1, 2] and chosen(browser) == ["#m1-1"] and current(browser) == "m1-1"
    message = "Only the sighting gate, 2024-05-03 23:59:50 to 2024-05-03 23:59:56, 2 frames, score 0.990"
    assert browser.run("return document.getElementById('message').textContent") == message
    browser.click(bar("m1-4"))
    assert shown(browser) == [4, 5] and chosen(browser) == ["#m1-4"]
    browser.click(bar("m1-4"))  # the same again
    assert shown(browser) == [1, 2, 3, 4, 5, 6, 7] and chosen(browser) == []
    browser.click(bar("m1-7"))
    assert shown(browser) == [7]
    browser.click(".all-matches")
    assert len(shown(browser)) == 7
    assert browser.run("return document.querySelector('.all-matches').offsetHeight") == 0


def test_the_keyboard_reaches_every_bar_from_one_stop(browser):
    assert browser.run("return [...document.querySelectorAll('.sighting')].filter((b) => b.tabIndex === 0).length") == 1
    browser.run("document.querySelector('.sighting').focus()")
    assert focused(browser) == "#m1-1" and current(browser) is None
    browser.press("Right")
    assert focused(browser) == "#m1-3"
    browser.press("Right", "Right")
    assert focused(browser) == "#m1-6"  # on to the next lanes
    browser.press("Up")
    assert focused(browser) == "#m1-4"
    browser.press("Up", "Left", "Up")
    assert focused(browser) == "#m1-1"  # there is nothing above or before it
    browser.press("Down", "Enter")
    assert shown(browser) == [4, 5] and focused(browser) == "#m1-4"
    assert browser.run("return document.querySelector('.sighting[tabindex=\"0\"]').getAttribute('href')") == "#m1-4"
    browser.press("Escape", "Down", " ")
    assert shown(browser) == [6] and focused(browser) == "#m1-6"


def test_verdicts_go_on_in_a_sighting_and_colour_its_bar(browser):
    browser.click(bar("m1-1"))
    browser.press("r", "a")
    script = "return ['m1-1', 'm1-4'].map((id) => document.querySelector(`[href='#${id}']`).classList.value)"
    assert browser.run(script) == ["sighting is-accepted", "sighting"]
    browser.press("u", "r")
    assert browser.run(script) == ["sighting is-rejected", "sighting"]
    browser.click(".all-matches")
    assert len(shown(browser)) == 7


def test_a_table_says_the_same(browser):
    browser.click(".sighting-table summary")
    script = "return [...document.querySelectorAll('tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    rows = browser.run(script)
    assert len(rows) == 5
    assert rows[1] == ["yard <b>", "2024-05-03 23:59:55", "2024-05-03 23:59:59", "2", "0.819", "match 4"]
    assert rows[4] == ["hall.mp4", "0:01:30", "0:01:30", "1", "0.647", "match 7"]


def many_cameras() -> list:
    """Ten days of forty cameras."""
    return [dated(f"camera {number}", number * 86_400 // 4 + seconds) for number in range(40) for seconds in (0, 5)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [520, 1280])
@pytest.mark.parametrize("frames", [FRAMES, many_cameras()], ids=["seconds", "days"])
def test_it_can_be_read_at_any_width(browser, folder, frames, width, scheme):
    browser.open(write(folder, "wide.html", frames))
    browser.resize(width, 900)
    browser.prefer(scheme)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.run(OVERLAPPING) == []
    assert browser.run(FAINT) == []
    assert browser.run("return Math.max(...[...document.querySelectorAll('.lanes')].map((l) => l.offsetHeight))") <= 420


# Labels of one scale that lie over each other, or reach out of it.
OVERLAPPING = """
return [...document.querySelectorAll('.axis .track')].flatMap((track) => {
  const whole = track.getBoundingClientRect();
  const boxes = [...track.querySelectorAll('.tick')].map((t) => [t.textContent, t.getBoundingClientRect()]);
  const outside = boxes.filter(([, b]) => b.left < whole.left - 1 || b.right > whole.right + 1);
  const over = boxes.filter(([, a], i) => boxes.some(([, b], j) => j > i && a.left < b.right && b.left < a.right
    && a.top + 3 < b.bottom && b.top + 3 < a.bottom));
  return [...outside, ...over].map(([text]) => text);
});
"""

# Bars and labels whose contrast with the panel is below what WCAG 2 asks: 3 of graphics, 4.5 of small text.
FAINT = """
const light = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
  .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const panel = light(getComputedStyle(document.querySelector('.timeline')).backgroundColor);
const ratio = (colour) => {
  const [a, b] = [light(colour), panel].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
};
return [...[...document.querySelectorAll('.bar-line')].map((e) => [e, 'stroke', 3]),
  ...[...document.querySelectorAll('.tick')].map((e) => [e, 'fill', 4.5])]
  .map(([e, name, least]) => [e.classList.value, ratio(getComputedStyle(e)[name]), least])
  .filter(([, found, least]) => found < least);
"""


def test_one_moment_stands_in_the_middle(browser, folder):
    browser.open(write(folder, "moment.html", [dated("gate", 0)]))
    script = """
    const box = document.querySelector('.bar-line').getBoundingClientRect();
    const track = document.querySelector('.track').getBoundingClientRect();
    return ((box.left + box.right) / 2 - track.left) / track.width"""
    assert browser.run(script) == pytest.approx(0.5, abs=0.01)
    assert browser.run("return [...document.querySelectorAll('.tick')].map((t) => t.textContent)")[0] == "23:59:50"


def test_nobody_was_seen(browser, folder):
    browser.open(write(folder, "nobody.html", []))
    text = browser.run("return document.querySelector('.timeline').textContent.trim()")
    assert text == "No sightings: frames of score 0.5 or more, at most 10 s apart"
