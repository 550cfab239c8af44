"""A headless Chromium that opens a page as a phone or a desktop would, spoken to over its DevTools pipe."""

import json
import os
import select
import shutil
import subprocess
from base64 import b64decode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
PATIENCE = 120
MEASURE = """({
    width: document.documentElement.clientWidth,
    scrollWidth: document.documentElement.scrollWidth,
    images: [...document.images].map(i => [i.alt, i.complete ? i.naturalWidth : 0]),
    background: getComputedStyle(document.body).backgroundColor,
    text: document.body.innerText,
    lang: document.documentElement.lang,
    headings: [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(h => Number(h.tagName[1])),
    first: (a => a && [a.textContent, a.hash, Boolean(a.hash && document.querySelector(a.hash))])(
        document.querySelector('a[href], button, summary, input, select, textarea, [tabindex="0"]')),
    screen: [...document.querySelectorAll('h1, p, li')].filter(
        one => one.getBoundingClientRect().bottom <= window.innerHeight).map(one => one.innerText).join(' '),
})"""


@dataclass
class Page:
    """What a browser saw."""

    measured: dict[str, Any]
    errors: list[str] = field(default_factory=list)
    """Console errors, exceptions and whatever else the browser logged."""
    requests: list[str] = field(default_factory=list)
    """Addresses it asked for beside the page itself."""


class Browser:
    """One Chromium process; use it in a `with` statement."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        to_read, self.to = os.pipe()
        self.back, back_write = os.pipe()
        shell = f'exec "$0" "$@" 3<&{to_read} 4>&{back_write}'  # Chromium reads from 3 and writes to 4
        self.process = subprocess.Popen(
            ["bash", "-c", shell, CHROMIUM, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_read, back_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(back_write)
        self.buffer = b""
        self.number = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.to)
        os.close(self.back)

    def look(self, page: Path, width: int, dark: bool, screenshot: Path | None = None) -> Page:
        """Open a page at a width in CSS pixels, with every folded part opened, and measure it."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.events.clear()
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable", session)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", session, **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", session, features=[scheme])
        self._call("Page.navigate", session, url=page.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._receive()
        if screenshot:
            picture = self._call("Page.captureScreenshot", session, captureBeyondViewport=True)
            screenshot.write_bytes(b64decode(picture["data"]))
        opened = "document.querySelectorAll('details').forEach(one => one.open = true)"
        self._call("Runtime.evaluate", session, expression=opened)
        measured = self._call("Runtime.evaluate", session, expression=MEASURE, returnByValue=True)["result"]["value"]
        self._call("Target.closeTarget", targetId=target)
        return Page(measured, _errors(self.events), _requests(self.events))

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        os.write(self.to, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            assert select.select([self.back], [], [], PATIENCE)[0], f"Chromium said nothing for {PATIENCE} seconds"
            read = os.read(self.back, 1 << 20)
            assert read, "Chromium has ended"
            self.buffer += read
        line, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message


def _errors(events: list[dict[str, Any]]) -> list[str]:
    found = []
    for event in events:
        parameters = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            found.append(str(parameters["exceptionDetails"]["text"]))
        elif event["method"] == "Log.entryAdded":
            found.append(str(parameters["entry"]["text"]))
        elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            found.append(str(parameters["args"]))
    return found


def _requests(events: list[dict[str, Any]]) -> list[str]:
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in asked[1:] if not url.startswith("data:")]
