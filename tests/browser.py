"""A real browser for the slow tests: headless Chromium, driven by Playwright."""

import shutil
from contextlib import contextmanager

import pytest

LOADED = "[...document.querySelectorAll('audio')].every(a => a.readyState > 0 && a.duration > 0.4)"
# The size of every text as it is seen: words in a drawing shrink with it.
SMALL = """() => {
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode());) {
    const within = node.parentElement, drawing = within.closest('svg');
    if (!node.textContent.trim() || within.closest('title, style')) continue;
    const size = parseFloat(getComputedStyle(within).fontSize) * (drawing ? Math.abs(within.getScreenCTM().a) : 1);
    if (size < 11) found.push([node.textContent.trim(), size]);
  }
  return found;
}"""
FITTING = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"


@contextmanager
def chromium(*options):
    """A headless Chromium with these options; skips, saying so, where there is none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium here; .ci/run installs Debian's")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=found, args=["--no-sandbox", *options])
        yield browser
        browser.close()


def visit(page, width=1200, screenshot=None):
    """Open a page from disk and fail unless every picture and player loads, nothing is said and nothing is fetched.

    Nor may a text be smaller than 11 pixels, or axe find a serious barrier, in light or in dark.
    Skips, saying so, where there is no Chromium. ``screenshot``: where to keep a picture of its first screen.
    """
    from axe_playwright_python.sync_playwright import Axe

    said, fetched = [], []
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": width, "height": 1600})
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: fetched.append(request.url))
        tab.goto(page.as_uri())
        tab.wait_for_function(LOADED)
        assert tab.evaluate(FITTING)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert said == []
        assert [url for url in fetched if not url.startswith("data:")] == [page.as_uri()]
        assert tab.evaluate(SMALL) == []
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            found = Axe().run(tab).response["violations"]
            grave = [each for each in found if each["impact"] in ("serious", "critical")]
            assert not [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in grave], scheme
        tab.emulate_media(color_scheme="light")
        counts = {name: tab.evaluate(f"document.querySelectorAll('{name}').length") for name in ("img", "audio", "svg")}
        if screenshot:
            tab.screenshot(path=str(screenshot))
    return counts
