"""Headless Chromium with what the tests ask of it."""

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


def driver_problem() -> str:
    """Why no browser can be driven here; empty where one can."""
    if find_spec("selenium") is None:
        return "selenium is not installed"
    if not any(shutil.which(name) for name in _CHROMIUM):
        return "there is no Chromium here"
    return "" if shutil.which("chromedriver") else "there is no chromedriver here (Debian: chromium-driver)"


def start_driver(downloads: Path) -> Any:
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
    """One page at a time."""

    driver: Any
    downloads: Path
    shots: Path
    complaints: list[str] = field(default_factory=list)
    asked_for_elsewhere: list[str] = field(default_factory=list)

    def open(self, path: Path, scheme: str = "light", media: str = "", width: int = 1400, height: int = 1000) -> None:
        self.leave()
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        self.driver.set_window_size(width, height)
        self.driver.get(path.as_uri())

    def leave(self) -> None:
        """Turn to an empty page without being asked whether to leave unsaved work, and note what the last one did."""
        for entry in self.driver.get_log("browser"):
            self.complaints.append(entry["message"])
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if not url.startswith(("file:", "data:", "blob:", "about:", "chrome:")):
                    self.asked_for_elsewhere.append(url)

    def close(self) -> None:
        from selenium.common.exceptions import UnexpectedAlertPresentException

        try:
            self.driver.get("about:blank")
        except UnexpectedAlertPresentException:
            self.driver.get("about:blank")
        self.leave()

    def js(self, script: str, *args: Any) -> Any:
        return self.driver.execute_script(f"return {script}", *args)

    def text(self, selector: str) -> str:
        return str(self.js("document.querySelector(arguments[0]).textContent", selector)).strip()

    def press(self, *keys: str) -> None:
        """Keys for whatever has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def type_into(self, selector: str, text: str) -> None:
        self.driver.find_element("css selector", selector).send_keys(text)

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def screenshot(self, name: str) -> Path:
        path = self.shots / f"{name}.png"
        self.driver.save_screenshot(str(path))
        return path

    def pdf(self, name: str) -> Path:
        printed = self.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
        path = self.shots / f"{name}.pdf"
        path.write_bytes(base64.b64decode(printed["data"]))
        return path

    def downloaded(self, name: str) -> Path:
        """A file that the page saved, once it is whole."""
        path = self.downloads / name
        for _ in range(100):
            if path.is_file() and not list(self.downloads.glob("*.crdownload")):
                return path
            time.sleep(0.05)
        raise AssertionError(f"{name} was not saved; there is {list(self.downloads.iterdir())}")
