"""The search page in a real Chromium: what a person does there, and that it can be done by all."""

import contextlib
import threading
import time

import pytest
from browser import chromium
from served import png, service, wav

from cmcr.serve import Serving, make_app
from cmcr.serve.run import take_port

uvicorn = pytest.importorskip("uvicorn")

pytestmark = pytest.mark.slow
RECORDER = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@contextlib.contextmanager
def running(served):
    """The address of a server that runs in a thread."""
    settings = Serving(port=0)
    with take_port(settings) as taken:
        server = uvicorn.Server(uvicorn.Config(make_app(served, settings), log_level="warning", lifespan="on"))
        server.install_signal_handlers = lambda: None
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/"
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uvicorn.Server.capture_signals", lambda self: contextlib.nullcontext())
        with running(service(tmp_path_factory.mktemp("served"), patch)) as found:
            yield found


@pytest.fixture(scope="module")
def browser():
    with chromium(*RECORDER) as opened:
        yield opened


@pytest.fixture
def tab(browser, address):
    """A tab; fails where anything is said on its console, or asked of another server."""
    opened = browser.new_page(viewport={"width": 1300, "height": 900}, base_url=address)
    said, elsewhere = watch(opened, address)
    yield opened
    opened.close()
    assert said == [] and elsewhere == []


def watch(tab, address):
    said, elsewhere = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda asked: asked.url.startswith((address, "blob:")) or elsewhere.append(asked.url))
    return said, elsewhere


def until(tab, told):
    """Wait until an expression is true; the page's own policy forbids Playwright's way, an eval in the page."""
    ends = time.monotonic() + 60
    while not tab.evaluate(told):
        assert time.monotonic() < ends, told
        tab.wait_for_timeout(50)


def hits(tab):
    """The rows of the cards, once an answer is there."""
    until(tab, "!document.querySelector('#hits').classList.contains('busy')")
    tab.wait_for_selector("#hits .card")
    return tab.eval_on_selector_all("#hits .card", "cards => cards.map(card => card.dataset.row)")


def rows_of(tab, **question):
    answer = tab.request.post("/search", data=question).json()
    return [hit["row"] for hit in answer["hits"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1600])
def test_everybody_can_use_it(browser, address, width, scheme):
    """Axe finds nothing serious, and nothing is wider than the window, whatever is shown."""
    from axe_playwright_python.sync_playwright import Axe

    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, base_url=address)
    said, elsewhere = watch(tab, address)
    for asked in (
        "",
        "?q=dog&in=image",
        "?q=dog+-+bark&in=text",
        "?row=image/1&in=audio",
        "?row=text/1&in=point_cloud",
    ):
        tab.goto(f"/{asked}")
        tab.wait_for_selector("#hits .card" if asked else "#examples button")
        tab.wait_for_selector("#legend button")
        tab.evaluate("document.querySelector('#more').open = true")
        found = Axe().run(tab).response["violations"]
        serious = [(each["id"], [n["html"][:120] for n in each["nodes"]][:3]) for each in found
                   if each["impact"] in ("serious", "critical")]  # fmt: skip
        assert serious == [], asked
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, asked
    tab.close()
    assert said == [] and elsewhere == []


def test_words_a_link_and_the_way_back(tab):
    tab.goto("/")
    tab.get_by_label("Ask in words").fill("text 3 - text 4")
    tab.keyboard.press("Enter")
    terms = [{"text": "text 3"}, {"text": "text 4", "sign": -1}]
    assert hits(tab) == rows_of(tab, terms=terms, modality="image", k=12)
    assert "q=text+3+-+text+4&in=image&k=12" in tab.url
    tab.get_by_label("audio").check(force=True)
    tab.wait_for_selector(".card audio")
    sounds = hits(tab)
    assert sounds == rows_of(tab, terms=terms, modality="audio", k=12)
    until(tab, "[...document.querySelectorAll('audio')].every(each => each.readyState > 0)")
    tab.reload()
    assert hits(tab) == sounds
    tab.go_back()
    tab.wait_for_selector(".card img")
    assert hits(tab) == rows_of(tab, terms=terms, modality="image", k=12)
    until(tab, "[...document.images].every(each => each.complete && each.naturalWidth)")


def test_a_hit_leads_on_and_words_are_added_to_it(tab):
    tab.goto("/?q=dog&in=image&k=4")
    first = hits(tab)[0]
    tab.get_by_role("button", name="Search on from this").first.click()
    tab.wait_for_selector(".chip")
    tab.wait_for_selector(".card.itself")
    assert hits(tab) == rows_of(tab, row=first, modality="image", k=4)
    assert f"row={first.replace('/', '%2F')}" in tab.url
    tab.get_by_label("Ask in words").fill("+ cat")
    tab.keyboard.press("Enter")
    until(tab, "document.querySelector('#status').textContent.includes('+ cat')")
    assert hits(tab) == rows_of(tab, terms=[{"row": first}, {"text": "cat"}], modality="image", k=4)
    tab.get_by_role("button", name="Ask no longer with").click()
    until(tab, "!document.querySelector('#status').textContent.includes('image/')")
    assert hits(tab) == rows_of(tab, text="cat", modality="image", k=4)


def test_weights_are_asked_with(tab):
    tab.goto("/?q=dog&in=image&k=12&w=hearer:text=1&w=seer:text=0")
    heard = hits(tab)
    assert heard == rows_of(tab, text="dog", modality="image", k=12, weights={"seer:text": 0, "hearer:text": 1})
    tab.get_by_text("Weigh who sees text").click()
    until(tab, "document.querySelector('#status').textContent.includes('seen by seer)')")
    assert hits(tab) == rows_of(tab, text="dog", modality="image", k=12) != heard
    assert "w=" not in tab.url


def test_a_condition_is_asked_with_and_part_of_the_link(tab):
    pytest.importorskip("duckdb")
    tab.goto("/?q=dog&in=image&k=12")
    assert len(hits(tab)) == 12
    tab.get_by_text("Conditions and weights").click()
    tab.get_by_label("Only where").fill("id IN ('p2', 'p7')")
    tab.keyboard.press("Enter")
    until(tab, "document.querySelector('#status').textContent.startsWith('2 of 2 image rows that meet')")
    some = hits(tab)
    assert some == rows_of(tab, text="dog", modality="image", k=12, where="id IN ('p2', 'p7')")
    tab.reload()
    assert hits(tab) == some and tab.evaluate("document.querySelector('#more').open")
    tab.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": png(50)})
    until(tab, "document.querySelector('#status').textContent.includes('a.png')")
    assert sorted(hits(tab)) == sorted(some)
    tab.go_back()
    until(tab, "document.querySelectorAll('#hits .card').length === 12")
    assert tab.get_by_label("Only where").input_value() == ""


def test_files_are_chosen_dropped_and_recorded(tab):
    tab.goto("/?in=text")
    tab.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": png(50)})
    tab.wait_for_selector(".chip img")
    until(tab, "document.querySelector('#status').textContent.includes('“a.png” (image')")
    assert len(hits(tab)) == 9
    tab.evaluate(
        """bytes => {
            const held = new DataTransfer();
            held.items.add(new File([new Uint8Array(bytes)], "b.wav", { type: "audio/wav" }));
            for (const name of ["dragenter", "dragover", "drop"])
                dispatchEvent(new DragEvent(name, { dataTransfer: held, cancelable: true }));
        }""",
        list(wav(50)),
    )
    until(tab, "document.querySelector('#status').textContent.includes('“b.wav” (audio')")
    tab.get_by_role("button", name="Record a sound").click()
    tab.get_by_role("button", name="End the recording").wait_for()
    tab.wait_for_timeout(700)
    tab.get_by_role("button", name="End the recording").click()
    until(tab, "document.querySelector('#status').textContent.includes('“recording.wav” (audio')")
    assert len(hits(tab)) == 9


def test_the_map_shows_searches_and_zooms(tab):
    tab.goto("/?in=image")
    tab.wait_for_selector("#legend button")
    tab.focus("#plane")
    tab.keyboard.press("ArrowRight")
    tab.wait_for_selector("#tip:not([hidden])")
    told = tab.text_content("#map-told")
    assert "seen by" in told
    tab.keyboard.press("+")
    tab.keyboard.press("Enter")
    assert hits(tab) and "row=" in tab.url
    tab.get_by_role("button", name="Show the whole map").click()
    before = tab.url
    drawn = tab.request.get("/map").json()["points"]
    box = tab.locator("#plane").bounding_box()
    scale = min(box["width"], box["height"]) / 2 * 0.94
    x, y, _, row, _ = max(drawn, key=lambda point: point[0])
    tab.mouse.move(box["x"] + box["width"] / 2 + x * scale, box["y"] + box["height"] / 2 - y * scale)
    tab.wait_for_selector("#tip:not([hidden])")
    tab.mouse.down()
    tab.mouse.up()
    tab.wait_for_url(lambda url: url != before)
    assert f"row={row.replace('/', '%2F')}" in tab.url
    hidden = tab.locator("#legend button").first
    hidden.click()
    assert hidden.get_attribute("aria-pressed") == "false"


def test_what_cannot_be_shown_says_why(browser, address):
    """A question without an answer, and a row that is not there: told on the page, which goes on."""
    tab = browser.new_page(base_url=address)
    tab.goto("/?q=dog+-+dog&in=image")
    until(tab, "document.querySelector('#error').textContent.includes('cancel out')")
    tab.goto("/?row=image/999&in=image")
    until(tab, "document.querySelector('#error').textContent.includes('image/0 to image/11')")
    tab.get_by_role("button", name="Ask no longer with").click()
    tab.get_by_label("Ask in words").fill("dog")
    tab.keyboard.press("Enter")
    assert len(hits(tab)) == 12
    assert tab.text_content("#error") == ""
    tab.close()
