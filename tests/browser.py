"""Headless Chromium, driven over HTTP as the WebDriver standard has it, so that no package is needed for it."""

import base64
import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Left": "\ue012", "Up": "\ue013", "Right": "\ue014", "Down": "\ue015"}

ONCE_DRAWN = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)))"


def browser_problem() -> str | None:
    """Why there is no browser to test with; None: there is one."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(missing)} not found; on Debian: apt install chromium chromium-driver" if missing else None


class Browser:
    """One page. The methods are those of https://www.w3.org/TR/webdriver2/ that the tests need."""

    def __init__(self, address: str, options: dict[str, Any]):
        self._address = address
        capabilities = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        self._session = self._call("POST", "/session", {"capabilities": capabilities})["sessionId"]

    def open(self, page: Path) -> None:
        """Loads the page and waits until it has been drawn: Chromium drops keys that come before that."""
        self._post("/url", url=page.absolute().as_uri())
        self._post("/execute/async", script=ONCE_DRAWN, args=[])

    def reopen(self, page: Path) -> None:
        """Loads the page once more to see what it kept, as late as a person would: on busy cores a page that was opened
        at once has been seen not to find it."""
        time.sleep(0.5)
        self.open(page)

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs the body of a JavaScript function and returns its result."""
        return self._post("/execute/sync", script=script, args=list(arguments))

    def press(self, *keys: str) -> None:
        """Types letters and keys of KEYS, wherever the focus is."""
        typed = [KEYS.get(key, key) for key in keys]
        actions = [{"type": kind, "value": key} for key in typed for kind in ("keyDown", "keyUp")]
        self._post("/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def click(self, selector: str) -> None:
        self._post(f"/element/{self._find(selector)}/click")

    def choose_file(self, selector: str, file: Path) -> None:
        self._post(f"/element/{self._find(selector)}/value", text=str(file.absolute()))

    def resize(self, width: int, height: int) -> None:
        self._post("/window/rect", width=width, height=height)

    def prefer(self, scheme: str) -> None:
        """light or dark, as the user of the system prefers."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._devtools("Emulation.setEmulatedMedia", {"features": [feature]})

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._get("/screenshot")))

    def pdf(self) -> bytes:
        return base64.b64decode(self._post("/print"))

    def complaints(self) -> list[str]:
        """What the page logged since it was last asked: errors, and what its own policy forbade."""
        return [entry["message"] for entry in self._post("/se/log", type="browser")]

    def requested(self) -> list[str]:
        """Addresses that the page fetched anything from."""
        return self.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")

    def allow_downloads(self, folder: Path) -> None:
        self._devtools("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})

    def close(self) -> None:
        self._call("DELETE", f"/session/{self._session}")

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._post("/goog/cdp/execute", cmd=command, params=parameters)

    def _find(self, selector: str) -> str:
        (element,) = self._post("/element", using="css selector", value=selector).values()
        return element

    def _post(self, path: str, **body: Any) -> Any:
        return self._call("POST", f"/session/{self._session}{path}", body)

    def _get(self, path: str) -> Any:
        return self._call("GET", f"/session/{self._session}{path}")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._address + path, data, {"Content-Type": "application/json"}, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy: it is local
        try:
            with opener.open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {json.load(error)['value']['message']}") from None


@contextmanager
def open_browser(profile: Path, downloads: Path, *, storage: bool = True) -> Iterator[Browser]:
    """A browser with an empty profile that finds no host. storage: whether its user lets pages keep anything."""
    downloads.mkdir(exist_ok=True)
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        port = next(match[1] for line in driver.stdout if (match := re.search(r"successfully on port (\d+)", line)))
        arguments = [
            "--headless=new",
            "--no-sandbox",  # tests may run as root, where Chromium's own sandbox refuses to start
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile}",
            "--window-size=1280,900",
        ]
        preferences = {} if storage else {"profile.default_content_setting_values.cookies": 2}
        browser = Browser(f"http://127.0.0.1:{port}", {"args": arguments, "prefs": preferences})
        try:
            browser.allow_downloads(downloads)
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait(timeout=20)
