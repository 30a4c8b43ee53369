"""A headless Chromium, driven through chromedriver's own HTTP interface (W3C WebDriver)."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

#: Seconds until a page must show what is waited for.
PATIENCE = 15.0
STEP = 0.05

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser:
    """One window.  `close` ends the browser and its driver."""

    def __init__(self, chromium: str, chromedriver: str, profile: Path, *flags: str) -> None:
        for _ in range(3):  # it may lose the port that it chose before it listens there
            self._driver = subprocess.Popen(
                [chromedriver, "--port=0"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            port = self._port()
            if port is not None:
                break
            self._end()
        assert port is not None, "chromedriver did not start"
        self._base = f"http://127.0.0.1:{port}/session"
        options = {"binary": chromium, "args": [*FLAGS, *flags, f"--user-data-dir={profile}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options}
        try:
            made = self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        except BaseException:
            self._end()
            raise
        self._base += "/" + made["sessionId"]

    def _port(self) -> int | None:
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            found = re.search(r"started successfully on port (\d+)", line)
            if found:
                return int(found[1])
        return None

    def open(self, url: str) -> None:
        """Load a page; returns when it has been loaded."""
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        """Run JavaScript in the page; what it returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def text(self, selector: str) -> str:
        """The text of the first element that matches, empty when there is none."""
        found = self.run(f"return document.querySelector({json.dumps(selector)})?.innerText || ''")
        return str(found)

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def wait_for(self, selector: str, words: str) -> str:
        """Wait until the element shows these words; its text."""
        limit = time.monotonic() + PATIENCE
        while words not in (text := self.text(selector)):
            assert time.monotonic() < limit, f"{selector} shows {text!r} instead of {words!r}"
            time.sleep(STEP)
        return text

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        """Show pages as a window of this size does, however small, light or dark."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._command("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", {"features": [scheme]})

    def _command(self, name: str, parameters: dict[str, Any]) -> None:
        """A command of the DevTools protocol."""
        self._ask("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def picture(self, file: Path) -> None:
        """Save what the window shows as PNG."""
        file.write_bytes(base64.b64decode(self._ask("GET", "/screenshot")))

    def close(self) -> None:
        try:
            self._ask("DELETE", "")
        finally:
            self._end()

    def _end(self) -> None:
        self._driver.terminate()
        self._driver.wait(10)
        if self._driver.stdout is not None:
            self._driver.stdout.close()

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self._base + path,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
            method=method,
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.read().decode()}") from error
