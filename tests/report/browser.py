"""A real browser on a page: clicks, keys and pictures as a person has them."""

import contextlib
import shutil
import time

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
           "--disable-component-update --disable-sync")  # fmt: skip
MINUTE = 120_000
FIRST = """
document.addEventListener("load", ({target}) => {
  if (target.src?.startsWith("file:")) window.firstPicture ??= performance.now();
}, true);
"""
"""Notes when the first picture was there, in milliseconds since the page was asked for."""


def program():
    """The path of a Chromium, or None."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@contextlib.contextmanager
def chromium():
    """A headless Chromium without a network; the test is skipped where there is none."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright, a browser driver, is not installed")
    found = program()
    if found is None:
        pytest.skip(f"no Chromium on this machine (none of {', '.join(PROGRAMS)})")
    with driver.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=found, args=OPTIONS.split())
        try:
            yield browser
        finally:
            browser.close()


class Viewer:
    """A page that is open: what it holds, and the errors that it made."""

    def __init__(self, browser, path, *, scheme="light", size=(1280, 800), script=True, fragment=""):
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, java_script_enabled=script
        )
        self.context.add_init_script(FIRST)
        self.page = self.context.new_page()
        self.page.set_default_timeout(MINUTE)
        self.errors, self.asked = [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.resolve().as_uri() + fragment)
        if script:
            self.page.wait_for_selector("html[data-ready]", state="attached")

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self.context.close()

    def key(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def value(self, code):
        return self.page.evaluate(code)

    def wait(self, code):
        """Until an expression holds; by asking again, as the page's policy forbids what the driver would have it do."""
        end = time.monotonic() + MINUTE / 1000
        while not self.value(code):
            assert time.monotonic() < end, f"{code} does not become true"
            self.page.wait_for_timeout(50)

    def texts(self, selector):
        return self.page.locator(selector).all_inner_texts()

    @property
    def nodes(self):
        return self.value("document.querySelectorAll('*').length")

    @property
    def names(self):
        """The images in the list, as far as there are cells for them."""
        return self.texts("#list li small")

    @property
    def count(self):
        return self.page.inner_text("#count")

    @property
    def title(self):
        """The image that is open."""
        return self.page.inner_text("#name")
