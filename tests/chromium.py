"""Headless Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import aiohttp

BINARY = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--window-size=1200,800",
    "--remote-debugging-port=0",
]
START_SECONDS = 60
CALL_SECONDS = 90


class Chromium:
    """A browser with one page, while the context lasts."""

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        with self._stack as stack:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            )
            self._process = subprocess.Popen(
                [BINARY, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(self._stop)
            self._loop = asyncio.new_event_loop()
            stack.callback(self._loop.close)
            port = self._port(Path(folder) / "DevToolsActivePort")
            self._loop.run_until_complete(self._connect(port))
            stack.callback(lambda: self._loop.run_until_complete(self._disconnect()))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _stop(self):
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _port(self, file):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if file.exists() and "\n" in (text := file.read_text()):
                return text.split()[0]
            assert self._process.poll() is None, "chromium ended"
            time.sleep(0.05)
        raise TimeoutError("chromium does not come up")

    async def _connect(self, port):
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json") as answer:
            pages = await answer.json()
        url = next(p for p in pages if p["type"] == "page")["webSocketDebuggerUrl"]
        self._socket = await self._session.ws_connect(url, max_msg_size=1 << 28)
        self._ids = itertools.count(1)
        self.console = []
        await self._call("Page.enable")
        await self._call("Runtime.enable")

    async def _disconnect(self):
        await self._socket.close()
        await self._session.close()
        await asyncio.sleep(0)

    async def _call(self, method, **params):
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(CALL_SECONDS):
            while True:
                told = json.loads((await self._socket.receive()).data)
                if told.get("id") == number:
                    assert "error" not in told, told
                    return told["result"]
                if told.get("method") in (
                    "Runtime.consoleAPICalled",
                    "Runtime.exceptionThrown",
                ):
                    self.console.append(json.dumps(told["params"])[:2000])

    def call(self, method, **params):
        return self._loop.run_until_complete(self._call(method, **params))

    def evaluate(self, code):
        """Give the value of an expression, of a promise when it is settled."""
        told = self.call(
            "Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def open(self, url, states=("ready", "error", "idle"), seconds=60):
        """Open a page and wait for its state, which is returned."""
        self.console.clear()
        self.call("Page.navigate", url=url)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self.evaluate(
                "location.href === 'about:blank' ? null : "
                "document.documentElement?.dataset.state"
            )
            if state in states:
                return state
            time.sleep(0.05)
        raise TimeoutError(f"{url} is {state}: {self.console}")

    def mouse(self, kind, x, y, **params):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **params)

    def click(self, x, y):
        self.mouse("mouseMoved", x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def screenshot(self, kind="png", quality=None):
        """Give the page as a picture."""
        options = {"format": kind} | ({"quality": quality} if quality else {})
        told = self.call("Page.captureScreenshot", **options)
        return base64.b64decode(told["data"])
