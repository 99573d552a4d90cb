"""Headless Chromium whose pages can reach this machine alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from refusing_proxy import RefusingProxy
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.proxy import Proxy
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 120  # Seconds that a loaded machine may take for anything.
SIZE = {"width": 1600, "height": 1000}
QUIET = ("background-networking", "component-update", "extensions", "sync")
# Of these the first asks a server for itself; the second would keep each page's process.
FEATURES = ("AutofillServerCommunication", "BackForwardCache", "MediaRouter", "OptimizationHints", "Translate")


class Chromium:
    """A window of the system's Chromium.

    Its pages use a proxy of their own, which records and refuses all that is not on this machine. What the browser
    asks for itself, such as updates, no flag turns off completely; that has another one.

    Attributes:
        driver: selenium's.
        outside: what the pages have asked for.
    """

    driver: webdriver.Chrome

    def __init__(self, screenshots: list[Path]) -> None:
        """Nothing is started yet.

        Args:
            screenshots: folders that they are written to.
        """
        self._screenshots = screenshots
        self._closing = ExitStack()
        self._opened = 0

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            own = opening.enter_context(RefusingProxy())
            self._pages = opening.enter_context(RefusingProxy())
            self.driver = webdriver.Chrome(_options(own), Service(shutil.which("chromedriver")))
            opening.callback(self.driver.quit)
            self._open_window()
            self._closing = opening.pop_all()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._closing.close()

    @property
    def outside(self) -> list[str]:
        """What the pages have asked for elsewhere."""
        return list(self._pages.asked)

    def _open_window(self) -> None:
        address = self._pages.address
        proxy = Proxy({"proxyType": "manual", "httpProxy": address, "sslProxy": address, "noProxy": "127.0.0.1"})
        context = self.driver.browser.create_user_context(proxy=proxy)
        self.driver.switch_to.window(self.driver.browsing_context.create(type="window", user_context=context))
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {**SIZE, "deviceScaleFactor": 1, "mobile": False}
        )

    def open(self, address: str) -> None:
        """Load a page anew, also when only what is behind the ``#`` differs."""
        self._opened += 1
        self.driver.get(address.replace("#", f"?{self._opened}#"))

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for something, and return it."""
        wait = WebDriverWait(self.driver, PATIENCE, ignored_exceptions=[StaleElementReferenceException])
        try:
            return wait.until(lambda _: condition())
        except TimeoutException:
            raise AssertionError(f"it did not come to that: {what}; on the page is: {self.text()}") from None

    def text(self) -> str:
        """All that is to be read on the page."""
        return str(self.driver.execute_script("return document.body.innerText"))

    def all(self, selector: str) -> list[WebElement]:
        """Elements by CSS selector."""
        return self.driver.find_elements("css selector", selector)

    def shows(self, *texts: str) -> str:
        """Wait until all these texts are to be read; returns the page's text."""
        self.until(lambda: all(text in self.text() for text in texts), f"{texts}")
        return self.text()

    def screenshot(self, name: str) -> None:
        """Write what the window shows."""
        picture = self.driver.get_screenshot_as_png()
        for folder in self._screenshots:
            (folder / f"{name}.png").write_bytes(picture)


def _options(own: RefusingProxy) -> Options:
    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    options.enable_bidi = True
    arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    arguments += [*(f"--disable-{what}" for what in QUIET), f"--disable-features={','.join(FEATURES)}"]
    arguments += [f"--proxy-server={own.address}", "--proxy-bypass-list=127.0.0.1"]
    arguments += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    if os.geteuid() == 0:  # Chromium refuses its sandbox to root.
        arguments.append("--no-sandbox")
    for argument in arguments:
        options.add_argument(argument)
    return options
