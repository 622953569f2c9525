"""A headless Chromium that is driven through its debugging pipe."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from select import select

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
GPU_IN_SOFTWARE = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")

WITH_PIPES = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(pipe), fcntl.F_DUPFD, 10) for pipe in sys.argv[1:3]]
[os.dup2(pipe, place) for pipe, place in zip(pipes, (3, 4))]
os.execv(sys.argv[3], sys.argv[3:])
"""  # Chromium reads from 3 and writes to 4


class Tab:
    """A tab: opens a page, evaluates expressions, gives files to it, and notes what its console says."""

    def __init__(self, to_browser, from_browser):
        self.to_browser, self.from_browser = to_browser, from_browser
        self.numbers, self.unread, self.session = itertools.count(), b"", None
        self.complaints, self.requests = [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        for answer in iter(self._read, None):
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)
        raise AssertionError("Chromium ended")

    def _read(self):
        while b"\0" not in self.unread:
            assert select([self.from_browser], [], [], 300)[0], "Chromium does not answer"
            received = os.read(self.from_browser, 1 << 20)
            if not received:
                return None
            self.unread += received
        message, _, self.unread = self.unread.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        method, about = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(about["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and about["type"] == "error":
            self.complaints.append([each.get("value", each.get("description")) for each in about["args"]])
        elif method == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.complaints.append(about["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression, seconds=120):
        end = time.monotonic() + seconds
        while not (value := self.run(expression)):
            assert time.monotonic() < end, f"{expression} after {seconds} s; {self.complaints}"
            time.sleep(0.1)
        return value

    def choose(self, selector, files):
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[*map(str, files)])

    def resize(self, width, height=900):
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def picture(self, file):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {**size, "scale": 1}
        taken = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        file.write_bytes(base64.b64decode(taken))

    def save_downloads(self, folder):
        session, self.session = self.session, None
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self.session = session


@contextmanager
def chromium(folder, *flags):
    """Yield a tab; the profile lies in a folder."""
    to_browser, from_browser = os.pipe(), os.pipe()
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", WITH_PIPES, str(to_browser[0]), str(from_browser[1]), CHROMIUM),
            *("--headless", "--remote-debugging-pipe", "--enable-unsafe-swiftshader", "--no-first-run"),
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            *(f"--user-data-dir={folder}", *flags),
        ],
        pass_fds=(to_browser[0], from_browser[1]),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(to_browser[0])
    os.close(from_browser[1])
    try:
        yield Tab(to_browser[1], from_browser[0])
    finally:
        os.close(to_browser[1])  # at which it ends
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()
        os.close(from_browser[0])
