"""The picture of ``docs/serve.md``: a running ``cmcr serve`` in a real Chromium.

    python benchmarks/serve_picture.py "http://127.0.0.1:8321/?q=two+red+drums&in=image&k=10" docs/serve.png

Needs Playwright and a Chromium on the path; the page, its hits and its map have been loaded when it is taken.
"""

import argparse
import shutil

from playwright.sync_api import ViewportSize, sync_playwright


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("out")
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--height", type=int, default=880)
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        size = ViewportSize(width=options.width, height=options.height)
        tab = browser.new_page(viewport=size, color_scheme="dark" if options.dark else "light")
        tab.goto(options.address)
        tab.wait_for_selector("#hits .card", timeout=60_000)
        tab.wait_for_selector("#legend button", timeout=60_000)
        while not tab.evaluate("[...document.images].every(each => each.complete)"):
            tab.wait_for_timeout(100)
        tab.screenshot(path=options.out)
        browser.close()


if __name__ == "__main__":
    main()
