"""`report.html` in a browser: filter, keyboard, verdicts that last, and what is exported."""

import json
import time
from pathlib import Path

import pytest
from browser import Browser, browser_problem, open_browser
from report_samples import NAMES, WEIGHTS, make_result

from qeeps_cli.output.json_writer import dump
from qeeps_cli.output.report import report_of_results
from qeeps_cli.output.searches import encode_search, join_searches

pytest_plugins = ["browser_fixtures", "report_fixtures"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_problem() is not None, reason=f"needs a browser: {browser_problem()}"),
]


@pytest.fixture(scope="module")
def page(folder, document) -> Path:
    return write(folder / "one.html", dump(document), whole_frames=3)


def write(path: Path, results: bytes, **options) -> Path:
    path.write_bytes(report_of_results(results, "results.json", lambda name: b"", **options).html)
    return path


def shown(browser: Browser) -> list[str]:
    """The ids of the matches that can be seen."""
    return browser.run("return [...document.querySelectorAll('.card')].filter((c) => c.offsetHeight).map((c) => c.id)")


def verdicts(browser: Browser) -> dict[str, str]:
    script = (
        "return Object.fromEntries([...document.querySelectorAll('.card')]"
        ".map((c) => [c.id, c.querySelector('.verdict').textContent.slice(2)]).filter(([, text]) => text))"
    )
    return browser.run(script)


def current(browser: Browser) -> str | None:
    return browser.run("return document.querySelector('.card[aria-current]')?.id ?? null")


def text(browser: Browser, id: str) -> str:
    return browser.run("return document.getElementById(arguments[0]).textContent", id)


def choose(browser: Browser, id: str, value: object) -> None:
    """Sets a control as its user would."""
    script = (
        "const control = document.getElementById(arguments[0]);"
        "control[control.type === 'checkbox' ? 'checked' : 'value'] = arguments[1];"
        "control.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    browser.run(script, id, value)


def download(browser: Browser, folder: Path) -> dict:
    """What the button exports, from the file that the browser saved. It reserves the name with an empty file first."""
    downloads = folder / "downloads"
    for earlier in downloads.iterdir():
        earlier.unlink()
    browser.click("#export")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if saved := [file.read_bytes() for file in downloads.glob("*.json") if file.stat().st_size]:
            return json.loads(saved[0])
        time.sleep(0.05)
    raise AssertionError(f"nothing was downloaded; the page says {text(browser, 'message')!r}")


def test_only_the_best_of_each_frame_at_first(browser):
    assert shown(browser) == [f"m1-{rank}" for rank in range(1, 6)]
    browser.click("#best")
    assert shown(browser) == [f"m1-{rank}" for rank in range(1, 11)]
    assert text(browser, "counts").startswith("10 of 10 shown")


def test_the_slider_filters_by_score_and_the_order_stays(browser):
    choose(browser, "threshold", 0.72)
    assert shown(browser) == ["m1-1", "m1-2", "m1-3"] and text(browser, "threshold-value") == "0.72"
    choose(browser, "threshold", 0.99)
    assert shown(browser) == []
    assert text(browser, "n1") == "No match scores 0.99 or more; the best scores 0.910."
    browser.run("document.getElementById('threshold').focus()")
    browser.press(*["Left"] * 9)  # the slider's own keys move the slider, and no match
    assert text(browser, "threshold-value") == "0.90" and shown(browser) == ["m1-1"] and current(browser) is None


def test_the_keyboard_moves_judges_and_undoes(browser):
    browser.press("j")
    assert current(browser) == "m1-1"
    browser.press("j", "Right", "k", "Left")
    assert current(browser) == "m1-1"
    browser.press("k")
    assert current(browser) == "m1-1"  # there is nothing before the first

    browser.press("a", "r")
    assert verdicts(browser) == {"m1-1": "accepted", "m1-2": "rejected"} and current(browser) == "m1-3"
    assert text(browser, "counts") == "5 of 5 shown \u00b7 1 accepted \u00b7 1 rejected".replace("of 5", "of 10")
    browser.press("u")
    assert verdicts(browser) == {"m1-1": "accepted"} and current(browser) == "m1-2"
    browser.press("u", "u")
    assert verdicts(browser) == {} and text(browser, "message") == "Nothing to undo"


def test_up_and_down_move_by_rows(browser):
    browser.click("#best")
    per_row = browser.run(
        "const tops = [...document.querySelectorAll('.card')].map((c) => c.offsetTop);"
        "return tops.filter((top) => top === tops[0]).length"
    )
    assert 1 < per_row < 10
    browser.press("j", "j", "Down")
    assert current(browser) == f"m1-{2 + per_row}"
    browser.press("Up")
    assert current(browser) == "m1-2"


def test_keys_that_belong_to_a_control_or_the_browser_do_nothing_here(browser):
    browser.run("document.getElementById('shown').focus()")
    browser.press("r")  # in the list of choices this looks for one that begins with r
    assert current(browser) is None and verdicts(browser) == {}


def test_buttons_judge_and_take_back(browser):
    browser.click("#m1-2 .accept")
    assert verdicts(browser) == {"m1-2": "accepted"} and current(browser) == "m1-2"
    pressed = "return document.querySelector('#m1-2 .accept').getAttribute('aria-pressed')"
    assert browser.run(pressed) == "true"
    browser.click("#m1-2 .reject")
    assert verdicts(browser) == {"m1-2": "rejected"} and browser.run(pressed) == "false"
    browser.click("#m1-2 .reject")
    assert verdicts(browser) == {}
    browser.click("#undo")
    assert verdicts(browser) == {"m1-2": "rejected"}
    browser.click("#clear")
    assert verdicts(browser) == {}
    browser.press("u")
    assert verdicts(browser) == {"m1-2": "rejected"}


def test_verdicts_can_be_shown_alone(browser):
    browser.press("j", "a", "r", "a")
    choose(browser, "shown", "accepted")
    assert shown(browser) == ["m1-1", "m1-3"]
    choose(browser, "shown", "open")
    assert shown(browser) == ["m1-4", "m1-5"]
    browser.press("j", "a")  # a match that is judged leaves this list, and the next one is there
    assert shown(browser) == ["m1-5"] and current(browser) == "m1-5"


def test_verdicts_outlast_the_page_and_belong_to_their_result(browser, page, folder, document):
    browser.press("j", "a", "r")
    browser.reopen(page)
    assert verdicts(browser) == {"m1-1": "accepted", "m1-2": "rejected"}
    other = {**document, "matches": [{**match, "score": match["score"] / 2} for match in document["matches"]]}
    browser.open(write(folder / "other.html", dump(other)))
    assert verdicts(browser) == {}


def test_the_export_is_json_with_exact_names(browser, folder, document):
    browser.press("j", "a", "a", "r", "r")
    exported = download(browser, folder)
    assert exported["schema"] == "qeeps.verdicts/1"
    (search,) = exported["searches"]
    assert search["query"] == document["query"] and search["weights"] == WEIGHTS and search["mode"] == "exact"
    assert [entry.pop("verdict") for entry in search["verdicts"]] == ["accepted", "accepted", "rejected", "rejected"]
    assert search["verdicts"] == document["matches"][:4]
    assert [entry["image"] for entry in search["verdicts"]] == NAMES[:4]  # also one that is not UTF-8


def test_what_was_exported_can_be_imported(browser, folder, document):
    browser.press("j", "a", "r", "j", "a")
    exported = download(browser, folder)
    browser.click("#clear")
    # The same person in a gallery that has grown: other ranks, the same boxes.
    exported["searches"][0]["result"] = "of an earlier run"
    for entry in exported["searches"][0]["verdicts"]:
        entry["rank"] += 100
    exported["searches"][0]["verdicts"].append({"image": "gone.jpg", "box": [1, 2, 3, 4], "verdict": "accepted"})
    (folder / "verdicts.json").write_text(json.dumps(exported))
    browser.choose_file("#file", folder / "verdicts.json")
    wait(browser, "3 verdicts imported; 1 of matches that this page does not hold")
    assert verdicts(browser) == {"m1-1": "accepted", "m1-2": "rejected", "m1-4": "accepted"}
    browser.press("u")
    assert verdicts(browser) == {}


@pytest.mark.parametrize(
    "data", ["", "[]", "null", '{"schema": "qeeps.search/1"}', '{"schema": "qeeps.verdicts/1", "searches": 1}']
)
def test_other_files_are_not_imported(browser, folder, data):
    (folder / "foreign.json").write_text(data)
    browser.choose_file("#file", folder / "foreign.json")
    wait(browser, "foreign.json holds no verdicts")
    assert verdicts(browser) == {}


@pytest.mark.parametrize("searches", [[], [None], [{"verdicts": 3}], [{"result": "x", "verdicts": [None, 1, {}]}]])
def test_odd_verdicts_are_left_out(browser, folder, searches):
    (folder / "odd.json").write_text(json.dumps({"schema": "qeeps.verdicts/1", "searches": searches}))
    browser.choose_file("#file", folder / "odd.json")
    wait(browser, "0 verdicts imported")
    assert verdicts(browser) == {}


def wait(browser: Browser, message: str) -> None:
    deadline = time.monotonic() + 20
    while not text(browser, "message").startswith(message):
        assert time.monotonic() < deadline, text(browser, "message")
        time.sleep(0.02)


def test_a_closer_look_shows_the_whole_frame_with_the_box(browser, document):
    browser.press("j", "Enter")
    assert browser.run("return document.getElementById('closer').open")
    frame = browser.run(
        "const frame = document.querySelector('.frame').getBoundingClientRect();"
        "const box = document.querySelector('.frame rect.line').getBoundingClientRect();"
        "return [box.x - frame.x, box.y - frame.y, box.width, box.height].map((v) => v * 200 / frame.width)"
    )
    assert frame == pytest.approx(document["matches"][0]["box"], abs=1.5)
    browser.press("j", "r")
    assert verdicts(browser) == {"m1-2": "rejected"} and text(browser, "closer-title").startswith("Match 3,")
    assert "does not hold this frame whole" in text(browser, "stage")
    browser.click("#closer-accept")
    assert text(browser, "closer-verdict").endswith("accepted")
    browser.press("Escape")
    assert not browser.run("return document.getElementById('closer').open")
    assert current(browser) == "m1-3"
    focused = "return document.activeElement.closest('.card')?.id"
    assert browser.run(focused) == "m1-3"


def test_a_closer_look_at_the_query(browser):
    browser.click(".query-open")
    assert text(browser, "closer-title") == "The person searched for"
    browser.press("a", "j")
    assert verdicts(browser) == {} and current(browser) is None


def test_nothing_in_a_name_runs(browser):
    assert browser.run("return document.querySelectorAll('script').length") == 2
    assert browser.run(
        "return [...document.querySelectorAll('.name')].some((e) => e.textContent.startsWith('script>'))"
    )


def test_several_searches(browser, folder):
    results = {"red coat": make_result(folder), "nobody": make_result(folder, []), "2": make_result(folder, [0.4], 1)}
    joined = join_searches(encode_search(id, result, WEIGHTS, "exact") for id, result in results.items())
    browser.open(write(folder / "several.html", joined))
    browser.press("j", "j", "j", "j", "j", "j")
    assert current(browser) == "m3-1"
    browser.press("a")
    exported = download(browser, folder)
    assert [search["id"] for search in exported["searches"]] == ["2"]
    choose(browser, "threshold", 0.5)
    assert shown(browser) == ["m1-1", "m1-2", "m1-3", "m1-4"]
    assert text(browser, "n3") == "No match scores 0.50 or more; the best scores 0.400."


def test_one_query_that_was_asked_for_twice_has_verdicts_of_its_own_each_time(browser, folder):
    joined = join_searches(encode_search(id, make_result(folder), WEIGHTS, "exact") for id in ("a", "b"))
    twice = write(folder / "twice.html", joined)
    browser.open(twice)
    for button in ("#m2-1 .accept", "#m1-2 .reject"):
        browser.run("document.querySelector(arguments[0]).click()", button)
    judged = {"m1-2": "rejected", "m2-1": "accepted"}
    assert verdicts(browser) == judged
    browser.reopen(twice)
    assert verdicts(browser) == judged
    exported = download(browser, folder)
    assert [[entry["rank"] for entry in search["verdicts"]] for search in exported["searches"]] == [[2], [1]]
    for result in (exported["searches"][0]["result"], "of an earlier run"):
        for search in exported["searches"]:
            search["result"] = result
        (folder / "twice.json").write_text(json.dumps(exported))
        browser.click("#clear")
        browser.choose_file("#file", folder / "twice.json")
        wait(browser, "2 verdicts imported")
        assert verdicts(browser) == judged


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [520, 1280])
def test_text_has_contrast_and_nothing_overflows(browser, scheme, width):
    browser.resize(width, 900)
    browser.prefer(scheme)
    browser.press("j", "a", "r")
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.run(FAINT) == []


# Texts whose contrast with what lies behind them is below 4.5, which WCAG 2 asks of small text (level AA).
FAINT = """
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = (colour) => numbers(colour).slice(0, 3)
  .map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if ((numbers(colour)[3] ?? 1) > 0) return colour;
  }
};
const texts = [...document.querySelectorAll('body *')].filter((e) => e.offsetHeight && !e.disabled
  && e.tagName !== 'OPTION' && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()));
return texts.map((e) => {
  const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
  return [e.className || e.tagName, e.textContent.slice(0, 20), (a + 0.05) / (b + 0.05)];
}).filter(([, , ratio]) => ratio < 4.5);
"""


def test_a_browser_that_keeps_nothing_says_so(folder, page):
    with open_browser(folder / "strict", folder / "downloads", storage=False) as browser:
        browser.open(page)
        assert text(browser, "message").startswith("This browser keeps no verdicts for this page")
        browser.press("j", "a")
        assert verdicts(browser) == {"m1-1": "accepted"}
        assert download(browser, folder)["searches"][0]["verdicts"][0]["verdict"] == "accepted"
        assert browser.complaints() == []
