"""A headless Chromium window for the tests."""

from __future__ import annotations

import base64
import json
import shutil
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
    *(
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
    ),
)
_LOAD_TIMEOUT_S = 20.0


def driver_problem() -> str:
    """Return why no browser can be used here; empty if one can."""
    if find_spec("selenium") is None:
        return "selenium is not installed"
    if not any(shutil.which(name) for name in _CHROMIUM):
        return "there is no Chromium here"
    return "" if shutil.which("chromedriver") else "there is no chromedriver here (Debian: chromium-driver)"


def start_driver(downloads: Path) -> Any:
    """Start Chromium with its log of messages and requests; it saves files to ``downloads``."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for option in _OPTIONS:
        options.add_argument(option)
    options.binary_location = next(path for name in _CHROMIUM if (path := shutil.which(name)))
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


@dataclass
class Window:
    """A browser window with one page at a time.

    Attributes:
        driver: The Selenium driver.
        downloads: Folder for saved files.
        screenshots: Folder for screenshots.
        console_messages: Warnings and errors of all pages so far.
        external_requests: URLs outside the page that it requested.
    """

    driver: Any
    downloads: Path
    screenshots: Path
    console_messages: list[str] = field(default_factory=list)
    external_requests: list[str] = field(default_factory=list)

    def open(self, path: Path, scheme: str = "light", media: str = "", width: int = 1400, height: int = 1000) -> None:
        """Open a page in a viewport of ``width`` by ``height`` CSS pixels."""
        self.collect_logs()
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        # A window of headless Chromium is at least 500 pixels wide; an emulated screen may be narrower.
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.get(path.as_uri())
        # On a busy machine the driver may return while the page that was left is still there.
        deadline = time.monotonic() + _LOAD_TIMEOUT_S
        while not self.js(
            "document.readyState === 'complete' && document.URL.split('#')[0] === arguments[0]", path.as_uri()
        ):
            assert time.monotonic() < deadline, f"{path} was not loaded"
            time.sleep(0.05)

    def collect_logs(self) -> None:
        """Collect the messages and requests since the last call."""
        for entry in self.driver.get_log("browser"):
            self.console_messages.append(entry["message"])
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if not url.startswith(("file:", "data:", "blob:", "about:", "chrome:")):
                    self.external_requests.append(url)

    def close(self) -> None:
        """Leave the page, and have the browser forget what it keeps for pages."""
        self.js("location.protocol === 'file:' && sessionStorage.clear()")
        self.leave()
        self.driver.execute_cdp_cmd(
            "Storage.clearDataForOrigin", {"origin": "file://", "storageTypes": "local_storage"}
        )
        self.collect_logs()

    def leave(self) -> None:
        """Leave the page, also if it asks whether to discard an unsaved review."""
        from selenium.common.exceptions import UnexpectedAlertPresentException

        try:
            self.driver.get("about:blank")
        except UnexpectedAlertPresentException:
            self.driver.get("about:blank")

    def js(self, script: str, *args: Any) -> Any:
        """Evaluate an expression in the page."""
        return self.driver.execute_script(f"return {script}", *args)

    def text(self, selector: str) -> str:
        """Return the text of an element."""
        return str(self.js("document.querySelector(arguments[0]).textContent", selector)).strip()

    def press(self, *keys: str) -> None:
        """Send keys to the element with the focus, once a page that moves it has shown the element."""
        from selenium.common.exceptions import ElementNotInteractableException
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self.driver, 5, ignored_exceptions=(ElementNotInteractableException,))
        for key in keys:
            wait.until(lambda driver, key=key: driver.switch_to.active_element.send_keys(key) or True)

    def type_into(self, selector: str, text: str) -> None:
        """Type into an input."""
        self.driver.find_element("css selector", selector).send_keys(text)

    def click(self, selector: str) -> None:
        """Click an element."""
        self.driver.find_element("css selector", selector).click()

    def screenshot(self, name: str) -> Path:
        """Save the visible part of the page as PNG."""
        path = self.screenshots / f"{name}.png"
        self.driver.save_screenshot(str(path))
        return path

    def pdf(self, name: str) -> Path:
        """Save the page as PDF."""
        printed = self.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
        path = self.screenshots / f"{name}.pdf"
        path.write_bytes(base64.b64decode(printed["data"]))
        return path

    def downloaded(self, pattern: str, n: int = 1) -> Path:
        """Wait until the page has saved ``n`` files with names of a pattern, and return the path of the last name."""
        for _ in range(100):
            paths = sorted(self.downloads.glob(pattern))
            if len(paths) == n and not list(self.downloads.glob("*.crdownload")):
                return paths[-1]
            time.sleep(0.05)
        raise AssertionError(f"{pattern} was not saved; found {list(self.downloads.iterdir())}")
