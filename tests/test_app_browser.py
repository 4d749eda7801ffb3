"""The page in a real browser: what a person does with it. Screenshots lie in pytest's temporary folder."""

from __future__ import annotations

import base64
import re
import shutil
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from app_helpers import RUN, SMALL, app_weights, running
from conftest import make_photo
from PIL import Image

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium: apt-get install chromium"),
    pytest.mark.flaky(reruns=1),  # in another browser: in CI one stood still once, and drew nothing any more
]
pytest.importorskip("gradio")

SLOW = 90_000  # ms, for a machine that is busy with other things
# Without a GPU a drawing's WebGL is computed; the rest of a page takes far less time where it is not drawn by way of that, too.
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu-compositing"]
FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a camera that sees a clock hand going round
DRAWS = "Promise.race([new Promise(r => requestAnimationFrame(() => r(true))), new Promise(r => setTimeout(() => r(false), 10000))])"
ELSEWHERE = re.compile(r"^(?!http://127\.0\.0\.1[:/]|data:|blob:)")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    weights = app_weights(tmp_path_factory.mktemp("browser-weights"))
    with running(tmp_path_factory.mktemp("browser-app"), weights, ("-c", SMALL + RUN), STYLENORM_APP_MEGAPIXELS="20") as server:
        yield server


@pytest.fixture(scope="module")
def browsers():
    with sync_api.sync_playwright() as playwright:
        yield [playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)]


@pytest.fixture
def browser(browsers, request):
    """The one that all tests share; another from where a test failed and is run again, for it may be the browser that failed."""
    if request.node.execution_count > 1:
        browsers.append(browsers[0].browser_type.launch(executable_path=CHROMIUM, args=FLAGS))
    return browsers[-1]


@pytest.fixture(scope="module")
def shots(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("screenshots")


class Visit:
    """A tab of the browser on the app. On leaving: nothing was asked for elsewhere, and the console has no error."""

    def __init__(self, browser, server, **options) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "accept_downloads": True} | options)
        self.context.set_default_timeout(SLOW)
        self.outside, self.errors, self.seen = [], [], {}
        self.context.route(ELSEWHERE, self._refuse)
        self.page = self.context.new_page()
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.goto(server.url)
        self.page.wait_for_selector("#gallery img")

    def _refuse(self, route) -> None:
        self.outside.append(route.request.url)
        route.abort()

    def tab(self, name: str) -> None:
        found, menu = self.page.get_by_role("tab", name=name, exact=True), self.page.locator(".overflow-menu > button")
        listed = self.page.locator(".overflow-dropdown").get_by_text(name, exact=True)  # where the page is narrow
        for _ in range(100):  # a page that has just become so puts its tabs there
            shown = found if found.is_visible() else listed
            if shown.is_visible():
                return shown.click()
            if menu.is_visible():
                menu.click()
            self.page.wait_for_timeout(100)
        raise AssertionError(f"there is no tab {name}")

    def upload(self, where: str, *files: Path) -> None:
        self.page.set_input_files(f"{where} input[type=file]", [str(f) for f in files])

    def choose(self, where: str, text: str) -> None:
        field = self.page.locator(f"{where} input[role=combobox]")
        field.click()
        self.page.get_by_role("option", name=text).first.click()

    def result(self, where: str = "#result") -> str:
        return self.page.locator(f"{where} img").nth(1).get_attribute("src")

    def new_result(self, before: str | None, where: str = "#result") -> str:
        self.page.wait_for_function(
            "([w, old]) => { const i = document.querySelectorAll(w + ' img')[1]; return i && i.src !== old && i.complete }",
            arg=[where, before],
        )
        while src := self.result(where):  # one change may paint twice; the last one stays
            answer = self.context.request.get(src)
            self.page.wait_for_timeout(300)
            if answer.ok and self.result(where) == src:
                self.seen[src] = np.asarray(Image.open(BytesIO(answer.body())).convert("RGB"), float)
                return src

    def pixels(self, src: str) -> np.ndarray:
        return self.seen[src]

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            assert kind is None or self.page.evaluate(DRAWS), "the browser draws nothing any more"
        finally:
            self.context.close()
        if kind is None:
            assert not self.outside, f"asked for {self.outside}"
            assert not self.errors, f"the console says {self.errors}"


@pytest.fixture
def visit(browser, server):
    with Visit(browser, server) as visit:
        yield visit


@pytest.fixture
def large(tmp_path) -> Path:
    return make_photo(tmp_path / "lake.jpg", (900, 600))


def test_upload_choose_see_move_the_slider_and_download(visit, large, shots, tmp_path):
    page = visit.page
    example = visit.result()
    visit.upload("#photo", large)
    first = visit.new_result(example)
    page.get_by_role("button", name="Red Hill").click()
    second = visit.new_result(first)
    assert np.abs(visit.pixels(first) - visit.pixels(second)).mean() > 1
    assert visit.pixels(second).shape == (600, 900, 3)

    handle = page.locator("#result [data-testid=slider]")
    handle.scroll_into_view_if_needed()
    before, box = handle.get_attribute("style"), handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 150, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert handle.get_attribute("style") != before

    page.get_by_label("Keep the photograph's colours").check()
    third = visit.new_result(second)
    page.screenshot(path=shots / "stylize.png", full_page=True)
    assert page.locator("#photo img").get_attribute("alt") == "The picture"
    page.get_by_label("PNG (exact, keeps transparency)").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the painting").click()
    download.value.save_as(tmp_path / "result")
    image = Image.open(tmp_path / "result")
    assert download.value.suggested_filename == "lake-painted.png"
    assert image.format == "PNG" and image.size == (900, 600)
    assert third == visit.result()
    page.locator("#file").evaluate("e => e.id = ''")  # as where it is hidden, for another style was painted in the meantime
    with page.expect_download():
        page.get_by_role("button", name="Download the painting").click()


def test_a_double_click_paints_once_and_the_next_click_again(visit, large):
    page, example, painted, files = visit.page, visit.result(), [], []
    visit.upload("#photo", large)
    visit.new_result(example)
    page.on("request", lambda request: painted.append(1) if "queue/join" in request.url and '"jpeg"' in request.post_data else None)
    page.on("download", lambda file: files.append(file))
    for clicks in (1, 2):
        with page.expect_download():
            page.locator("#finish").dblclick()
        assert len(painted) == len(files) == clicks
    visit.tab("Regions")
    page.locator("#regions-finish").dblclick()
    page.get_by_text("Add a photograph first").wait_for()
    assert len(painted) == 3


def test_an_example_runs_with_one_click(visit, shots):
    example = visit.result()
    visit.page.locator("#examples button, #examples .gallery-item").nth(1).click()
    visit.new_result(example)


def test_a_painting_as_style_and_a_blend(visit, large, tmp_path):
    page, example = visit.page, visit.result()
    visit.upload("#photo", large)
    first = visit.new_result(example)
    page.get_by_role("button", name="Use your own painting as the style").click()
    painted = []  # requests for a preview
    page.on("request", lambda request: painted.append(1) if "queue/join" in request.url and "lake.jpg" in request.post_data else None)
    visit.upload("#own-painting", make_photo(tmp_path / "painting.jpg", (120, 90), 3))
    second = visit.new_result(first)
    assert page.locator("#style input").input_value() == "My own painting"
    assert len(painted) == 1, "once, and not once for the upload and once for its being chosen"
    page.locator("#own-painting").get_by_label("Remove Image").click()
    page.get_by_text("Upload a painting first").wait_for()
    visit.upload("#own-painting", make_photo(tmp_path / "another.jpg", (90, 120), 4))
    second = visit.new_result(second)
    assert len(painted) == 3
    page.get_by_role("button", name="Blend with up to three more styles").click()
    page.get_by_label("Style 2", exact=True).click()
    page.get_by_role("option", name="Red Hill").first.click()
    third = visit.new_result(second)
    assert np.abs(visit.pixels(third) - visit.pixels(second)).mean() > 1


def test_a_mask(visit, large, shots, tmp_path):
    page = visit.page
    visit.tab("Regions")
    canvas = page.locator("#drawing canvas").first
    canvas.wait_for()  # a photograph that comes before the canvas is there is lost on it
    visit.upload("#regions-photo", large)
    page.locator("#regions-photo img").wait_for()
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(2500)  # the canvas takes in the photograph; there is no sign of when it has
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.35, box["y"] + box["height"] * 0.4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.6, steps=3)
    page.mouse.up()
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Paint it").click()
    both = visit.new_result(None, "#regions-result")
    page.screenshot(path=shots / "regions.png", full_page=True)
    visit.choose("#inside", "Red Hill")  # the same style everywhere, to see where the other one was
    visit.choose("#outside", "Red Hill")
    page.get_by_role("button", name="Paint it").click()
    same = visit.new_result(both, "#regions-result")
    difference = np.abs(visit.pixels(both) - visit.pixels(same)).mean(2)
    height, width = difference.shape
    outside = difference[int(height * 0.7) :, int(width * 0.8) :].mean()
    assert difference.mean() > 1
    drawn = difference[int(height * 0.4) : int(height * 0.6), int(width * 0.3) : int(width * 0.45)].mean()
    assert abs(drawn - outside) > 1
    with page.expect_download() as download:
        page.locator("#regions-finish").click()
    download.value.save_as(tmp_path / "r")
    assert Image.open(tmp_path / "r").size == (900, 600)
    with page.expect_request(lambda request: "queue/join" in request.url):  # it asks for the photograph
        page.locator("#drawing").get_by_label("Clear canvas").click()
    sync_api.expect(page.get_by_text("select the draw tool to start").locator("visible=true")).to_have_count(0, timeout=SLOW)
    assert visit.result("#regions-result") == same
    page.locator("#regions-photo").get_by_label("Remove Image").click()
    page.locator("#regions-file").wait_for(state="hidden")  # it is a painting of another photograph from now on


def test_a_browser_that_has_nothing_to_draw_on_says_so(browser, server):
    """As Firefox has no WebGL where nothing draws it, and Gradio's editor stays empty."""
    said = "getComputedStyle(document.querySelector('#drawing'), '::after').content"
    with Visit(browser, server) as visit:
        visit.tab("Regions")
        visit.page.locator("#drawing").wait_for()
        assert "WebGL" not in visit.page.evaluate(said)
        visit.page.evaluate(
            """() => {
              const get = HTMLCanvasElement.prototype.getContext;
              Object.defineProperty(navigator, "gpu", { value: undefined, configurable: true });
              HTMLCanvasElement.prototype.getContext = function (kind, ...more) { return /gl/.test(kind) ? null : get.call(this, kind, ...more) };
              for (const script of document.querySelectorAll("script")) if (script.textContent.includes("undrawable")) (0, eval)(script.textContent);
              HTMLCanvasElement.prototype.getContext = get;  // the editor, which may be loading still, has it again
              delete navigator.gpu;
            }"""
        )
        assert "it has no WebGL" in visit.page.evaluate(said)


def test_pictures_from_noise(visit, shots, tmp_path):
    page = visit.page
    visit.tab("Generate")
    assert len({page.locator(f"#generate-{n} input").bounding_box()["y"] for n in ("width", "height", "seed")}) == 1, "a label is broken in two"
    for side, length in (("width", "256"), ("height", "192")):
        page.locator(f"#generate-{side} input").click()
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.type(length)
        page.keyboard.press("Tab")
    page.get_by_role("button", name="Make it").click()
    first = page.locator("#generate-result img")
    first.wait_for()
    source = first.get_attribute("src")
    assert not page.locator("#generate-repeat img").is_visible()
    page.locator("#generate-seamless input").check()
    page.locator("#generate-seed input").fill("-3")
    page.get_by_role("button", name="Another one").click()
    page.get_by_text("less than minimum value 0").wait_for()
    page.locator("#generate-seed input").fill("0")
    page.get_by_role("button", name="Another one").click()
    page.locator("#generate-repeat img").wait_for()
    assert page.locator("#generate-seed input").input_value() == "1"
    assert first.get_attribute("src") != source
    with page.expect_download() as download:
        page.locator("#generate-file").click()
    download.value.save_as(tmp_path / "plain.jpg")
    assert Image.open(tmp_path / "plain.jpg").size == (256, 192)

    make_and_stop(page, first)
    page.get_by_text("Paint a layout").click()
    canvas = page.locator("#generate-drawing canvas").first
    canvas.wait_for()
    canvas.scroll_into_view_if_needed()
    page.get_by_label("Brush", exact=True).locator("visible=true").first.click()
    page.wait_for_timeout(1500)
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.6, steps=3)
    page.mouse.up()
    page.wait_for_timeout(500)
    visit.choose("#generate-gold", "Red Hill")
    source = first.get_attribute("src")
    page.get_by_role("button", name="Make it").click()
    page.wait_for_function("s => document.querySelector('#generate-result img').src !== s", arg=source)
    page.screenshot(path=shots / "generate.png", full_page=True)
    page.wait_for_timeout(500)
    with page.expect_download() as download:
        page.locator("#generate-file").click()
    download.value.save_as(tmp_path / "laid.jpg")
    plain, laid = (np.asarray(Image.open(tmp_path / name), float) for name in ("plain.jpg", "laid.jpg"))
    assert np.abs(plain - laid).mean() > 1


def make_and_stop(page, picture) -> None:
    source, width = picture.get_attribute("src"), page.locator("#generate-width input")
    for length in ("40000", "256"):
        width.fill(length)
        width.press("Tab")
        page.wait_for_timeout(500)  # on a busy machine the page knows of it later than of the click
        if length != "256":
            for _ in range(3):
                page.locator("#generate-another").click()
                page.wait_for_timeout(150)
            page.locator("#generate-stop").click()
            page.get_by_text("Stopped; no picture was made.").wait_for()
    assert picture.get_attribute("src") == source
    assert page.locator("#generate-seed input").input_value() == "1", "the number is that of the picture"


def test_a_folder_with_one_broken_file(visit, shots, tmp_path):
    page = visit.page
    visit.tab("Folder")
    page.get_by_role("button", name="Paint them all").click()
    page.get_by_text("Add photographs, or a zip of them, first.").wait_for()
    page.locator("#folder-stop").click()
    page.get_by_text("Nothing is being painted.").wait_for()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    visit.upload("#folder-files", make_photo(tmp_path / "one.jpg"), broken, make_photo(tmp_path / "two.png"))
    page.get_by_role("button", name="Paint them all").click()
    page.get_by_text("2 of 3 painted, 1 left out").wait_for()
    assert page.locator("#folder-files").get_by_label("Upload", exact=True).get_attribute("title") == "Upload"
    assert "broken.png" in page.locator("#folder-table").inner_text()
    page.screenshot(path=shots / "folder.png", full_page=True)
    with page.expect_download() as download:
        page.locator("#folder-zip a").first.click()
    download.value.save_as(tmp_path / "r.zip")
    with zipfile.ZipFile(tmp_path / "r.zip") as archive:
        assert sorted(archive.namelist()) == ["one.jpg", "two.jpg"]


def test_a_film_is_shown_painted_played_and_saved(visit, shots, tmp_path):
    pytest.importorskip("av")
    from test_video import film, shown

    page = visit.page
    visit.tab("Film")
    page.get_by_role("button", name="Paint the film").click()
    page.get_by_text("Add a film first").wait_for()
    visit.upload("#film-file", film(tmp_path / "lake.mp4", 60, (320, 240)))
    first = visit.new_result(None, "#film-frame")
    page.get_by_text("320 x 240 px, about 60 frames, 10 a second. This is one frame of it.").wait_for()
    visit.choose("#film-style", "Red Hill")
    second = visit.new_result(first, "#film-frame")
    assert np.abs(visit.pixels(first) - visit.pixels(second)).mean() > 1
    page.screenshot(path=shots / "film-frame.png", full_page=True)
    page.get_by_role("button", name="Paint the film").click()
    page.wait_for_function("document.querySelector('#film-status').textContent.includes(' of about 60 frames')")
    leaves = "(e => (dispatchEvent(e), !e.defaultPrevented))(new Event('beforeunload', {cancelable: true}))"
    assert not page.evaluate(leaves), "the browser asks, and who stays sees it go on"
    page.get_by_text("60 frames painted in").wait_for()
    assert page.evaluate(leaves.replace("dispatchEvent", "leaving"))
    playing = "(v => v && v.readyState > 1 && [v.videoWidth, v.videoHeight, Math.round(v.duration)])(document.querySelector('#film-player video'))"
    page.wait_for_function(playing)
    assert page.evaluate(playing) == [320, 240, 6] and not page.locator("#film-frame").is_visible()
    page.screenshot(path=shots / "film.png", full_page=True)
    page.locator("#film-player [role=button]").first.focus()
    page.wait_for_function("getComputedStyle(document.querySelector('#film-player .controls')).opacity == 1")  # who has no mouse sees them
    with page.expect_download() as download:
        page.locator("#film-save").click()
    download.value.save_as(tmp_path / "saved.mp4")
    assert len(shown(tmp_path / "saved.mp4")[0]) == 60
    said = "getComputedStyle(document.querySelector('#film-player'), '::after').content"
    assert "cannot play" not in page.evaluate(said)
    page.evaluate("document.querySelector('#film-player video').src = 'data:video/mp4;base64,AAAA'")  # as one that knows no H.264
    page.wait_for_function(said + ".includes('cannot play')")
    page.screenshot(path=shots / "unplayable.png", full_page=True)
    visit.choose("#film-style", "Blue Tree")
    page.get_by_text("This is one frame of it").wait_for()
    page.locator("#film-frame").wait_for()
    page.locator("#film-player").wait_for(state="hidden")
    assert page.locator("#film-save").is_visible(), "it took a while to paint"
    page.locator("#film-file").get_by_label("Clear").click()
    page.locator("#film-save").wait_for(state="hidden")


def test_training_a_style_for_a_few_steps(visit, shots, tmp_path):
    page = visit.page
    visit.tab("Train a style")
    visit.upload("#train-painting", make_photo(tmp_path / "garden.jpg", (128, 96), 5))
    page.locator("#train-painting img").wait_for()
    page.get_by_label("Name of the new style").fill("browser garden")
    page.wait_for_timeout(1500)  # until then the page may put the first value back
    page.get_by_label("range slider for Minutes").fill("0.1")
    sync_api.expect(page.get_by_label("number input for Minutes")).to_have_value("0.1", timeout=SLOW)
    page.get_by_role("button", name="Train this style").click()
    page.locator("#train-status [role=status]").get_by_text("is now among the styles").wait_for(timeout=3 * SLOW)
    page.locator("#train-preview img").wait_for()
    page.screenshot(path=shots / "train.png", full_page=True)
    visit.tab("Stylize")
    page.get_by_role("button", name="browser garden").wait_for()


def test_the_comparison(visit, large, shots, tmp_path):
    page = visit.page
    visit.tab("Compare")
    visit.upload("#compare-photo", large)
    page.locator("#compare-photo img").wait_for()
    page.locator("#compare-run").click()
    page.wait_for_function("() => document.querySelectorAll('#compared img').length >= 5")
    page.screenshot(path=shots / "compare.png", full_page=True)
    page.get_by_role("button", name="Instance normalization: each channel").click()
    caption, frame = (page.locator(f"#compared {part}").bounding_box() for part in (".preview .caption", ".preview"))
    assert caption["x"] >= frame["x"] and caption["width"] <= frame["width"], "its ends are cut off, and with them what it is about"
    page.keyboard.press("Escape")  # the list again
    (tmp_path / "words.jpg").write_text("just some words")
    visit.upload("#compare-photo", tmp_path / "words.jpg")
    page.locator("#compare-run").click()
    page.get_by_text("words.jpg is not a picture").first.wait_for()
    page.wait_for_function("() => !document.querySelector('#compared img')")  # they were of another photograph


def test_a_text_file_named_jpg_gets_a_sentence(visit, shots, tmp_path):
    (tmp_path / "words.jpg").write_text("just some words")
    visit.upload("#photo", tmp_path / "words.jpg")
    visit.page.get_by_text("words.jpg is not a picture").wait_for()
    visit.page.get_by_alt_text("This browser cannot show this file").wait_for()
    visit.page.get_by_text("so there is no painting here").wait_for()
    visit.page.screenshot(path=shots / "text-file.png")
    assert not visit.page.locator("#result img").count(), "which would be the one of before"
    assert "Traceback" not in visit.page.content()


def test_a_picture_that_the_browser_does_not_know_by_its_name_is_taken(visit, tmp_path):
    page, example = visit.page, visit.result()
    photo = make_photo(tmp_path / "photo.jpg", (90, 60)).rename(tmp_path / "IMG_0001.HEIC")
    visit.upload("#photo", photo)
    first = visit.new_result(example)
    assert "IMG_0001" in first
    page.locator("#photo").get_by_label("Remove Image").click()
    upload = page.locator("#photo button.upload-container")
    upload.wait_for()
    make = "bytes => { const all = new DataTransfer(); all.items.add(new File([new Uint8Array(bytes)], 'IMG_0002.HEIC')); return all }"
    upload.dispatch_event("drop", {"dataTransfer": page.evaluate_handle(make, list(photo.read_bytes()))})
    shown = "name => document.querySelectorAll('#result img')[1].src.includes(name)"
    page.wait_for_function(shown, arg="IMG_0002")
    over = make.replace("IMG_0002", "IMG_0003")
    page.locator("#photo img").dispatch_event("drop", {"dataTransfer": page.evaluate_handle(over, list(photo.read_bytes()))})
    page.wait_for_function(shown, arg="IMG_0003")
    film = make.replace("'IMG_0002.HEIC'", "'clip.mp4', { type: 'video/mp4' }")
    page.locator("#photo img").dispatch_event("drop", {"dataTransfer": page.evaluate_handle(film, list(b"a film"))})
    page.get_by_text("clip.mp4 is a film and not a picture; the tab “Film” paints it.").first.wait_for()  # the field was emptied without a word


def test_a_picture_that_is_pasted_is_the_photograph_of_the_tab_that_is_shown(visit):
    page, example = visit.page, visit.result()
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copy = """color => new Promise(done => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 90, height: 60 }), context = canvas.getContext("2d");
      context.fillStyle = color;
      context.fillRect(0, 0, 50, 50);
      canvas.toBlob(picture => navigator.clipboard.write([new ClipboardItem({ "image/png": picture })]).then(done));
    })"""
    page.evaluate(copy, "red")
    page.keyboard.press("ControlOrMeta+v")
    first = visit.new_result(example)
    assert visit.pixels(first).shape == (60, 90, 3)
    page.get_by_label("range slider for Strength").focus()
    page.evaluate(copy, "blue")
    page.keyboard.press("ControlOrMeta+v")
    visit.new_result(first)
    visit.tab("Regions")
    page.locator("#drawing canvas").first.wait_for()
    page.keyboard.press("ControlOrMeta+v")
    page.locator("#regions-photo img").wait_for()
    visit.tab("Train a style")
    page.evaluate("window.seen = []; for (const type of ['paste', 'change']) document.addEventListener(type, () => seen.push(type))")
    page.get_by_label("Name of the new style").focus()
    page.keyboard.press("ControlOrMeta+v")
    page.wait_for_function("seen.length")
    page.locator("#train-run").focus()
    page.evaluate("navigator.clipboard.writeText('words')")
    page.keyboard.press("ControlOrMeta+v")
    page.wait_for_function("seen.length > 1")
    assert page.evaluate("seen") == ["paste", "paste"], "where one writes, and words, are no photograph"


def test_a_page_of_before_a_restart_is_loaded_anew_and_has_its_photograph_again(visit, tmp_path):
    page, look = visit.page, "document.dispatchEvent(new Event('visibilitychange'))"
    visit.context.unroute_all()  # with routes browsers keep nothing
    said = "document.body.append(Object.assign(document.createElement('div'), { className: 'toast-body', textContent: 'Attempting reconnection' }))"
    page.evaluate(said)  # as Gradio does on a page that is left while something is at work
    page.reload()
    page.wait_for_selector("#gallery img")
    example = visit.result()  # before the upload: on a slow page, the first picture that is seen after it is its painting
    visit.upload("#photo", photo := make_photo(tmp_path / "Möwe 1%.jpg"))
    visit.new_result(example)
    page.evaluate(f"window.old = true; {look}")
    page.wait_for_timeout(500)
    assert page.evaluate("window.old"), "the server is the same"
    assert "lost" not in page.locator("#heading").inner_text()
    page.evaluate(f"gradio_config.app_id = 1; {look}")
    page.wait_for_function("() => !window.old")
    page.get_by_text("was loaded anew: with your photograph, but without your settings and other files.").wait_for()
    again = page.locator("#photo img").get_attribute("src")
    assert "M%C3%B6we%201%25.jpg" in again and visit.context.request.get(again).body() == photo.read_bytes()
    page.evaluate(f"window.old = true; gradio_config.app_id = 1; {look}")
    page.wait_for_timeout(500)
    assert page.evaluate("window.old"), "several servers that take turns would have it load for ever"


def test_two_tabs_at_once_get_their_own_results(browser, server, tmp_path):
    with Visit(browser, server) as ada, Visit(browser, server) as bob:
        shown = {visit: visit.result() for visit in (ada, bob)}
        ada.upload("#photo", make_photo(tmp_path / "ada.jpg", (300, 200), 1))
        bob.upload("#photo", make_photo(tmp_path / "bob.jpg", (200, 300), 2))
        results = {visit: visit.new_result(shown[visit]) for visit in (ada, bob)}
        assert "ada-painted" in results[ada] and "bob-painted" in results[bob]
        assert ada.pixels(results[ada]).shape == (200, 300, 3) and bob.pixels(results[bob]).shape == (300, 200, 3)


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (390, "dark")])
def test_narrow_and_wide_light_and_dark(browser, server, shots, large, width, scheme):
    with Visit(browser, server, viewport={"width": width, "height": 844}, color_scheme=scheme, locale="de-DE") as visit:
        assert "Click to Upload" in visit.page.locator("#photo").inner_text(), "Gradio's words are in the browser's language, ours in English"
        assert visit.page.evaluate("document.documentElement.lang") == "en"
        assert not visit.page.locator("#photo .icon-button-wrapper").is_visible(), "it is a speck in the corner"
        example = visit.result()
        visit.upload("#photo", large)
        visit.new_result(example)
        visit.page.wait_for_timeout(500)
        visit.page.screenshot(path=shots / f"{scheme}-{width}.png", full_page=True)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, "it has to be scrolled sideways"
        color = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        red = int(color.split("(")[1].split(",")[0])
        assert (red < 90) == (scheme == "dark"), color
        visit.tab("Regions")
        label = visit.page.locator("#drawing label.float")
        label.wait_for()
        assert label.bounding_box()["height"] < 40, "a second line would hide the top of a portrait photograph on a phone"
        assert crowded(visit.page) == []
        sizes = ("Camera", width), ("Film", width), ("Stylize", width), ("Stylize", 320), ("Camera", 320), ("Regions", 768), ("Stylize", 768)
        for tab, narrow in sizes:
            visit.page.set_viewport_size({"width": narrow, "height": 844})
            visit.tab(tab)
            assert crowded(visit.page) == [], f"{tab} at {narrow} px"
            assert hidden(visit.page) == [], f"{tab} at {narrow} px"
        betweens = [("Film", 1100), ("Stylize", 1024), ("Folder", 1200), ("Generate", 1200)] if width == 1280 else []
        for tab, between in betweens:
            visit.page.set_viewport_size({"width": between, "height": 844})
            visit.tab(tab)
            visit.page.locator("#finish, #film-run, #folder-run, #generate-make").locator("visible=true").wait_for()
            assert broken(visit.page) == [], f"{tab} at {between} px"


def broken(page) -> list[str]:
    """Strokes that do not stand in one row, and labels that do not stand in one line."""
    return page.evaluate(
        """() => [...document.querySelectorAll("[data-testid=block-info], .wrap:has(> label:nth-child(3) [type=radio])")].filter(e => {
          const tops = [...(e.matches(".wrap") ? e.children : [e])].flatMap(c => {
            const range = document.createRange(); range.selectNodeContents(c); return [...range.getClientRects()].filter(r => r.width) });
          return e.offsetParent && Math.max(...tops.map(r => r.bottom)) - Math.min(...tops.map(r => r.top)) > 30
        }).map(e => e.innerText)"""
    )


def hidden(page) -> list[str]:
    """Labels of pictures that lie behind small buttons."""
    return page.evaluate(
        """() => [...document.querySelectorAll("label.float")].filter(e => {
          const box = e.getBoundingClientRect();
          return e.offsetParent && [...e.closest(".block").querySelectorAll("button")].some(b => {
            const r = b.getBoundingClientRect();
            return r.width && r.height < 60 && r.left < box.right && r.right > box.left && r.top < box.bottom && r.bottom > box.top;
          })
        }).map(e => e.innerText)"""
    )


def crowded(page) -> list[str]:
    """Labels of what is set that are broken into a column, or cut off by the edge of the page."""
    page.wait_for_timeout(500)
    return page.evaluate(
        """() => [...document.querySelectorAll("[data-testid=block-info], .checkbox-container span, label:has([type=radio]) span")].filter(e => {
          const range = document.createRange(); range.selectNodeContents(e);
          const all = [...range.getClientRects()].filter(r => r.width), edge = e.closest(".block").getBoundingClientRect();
          return e.offsetParent && (new Set(all.map(r => Math.round(r.top / 12))).size > 2 || all.some(r => r.right > edge.right + 1))
        }).map(e => e.innerText)"""
    )


def test_on_a_phone_the_result_is_in_sight_while_a_style_is_chosen_and_things_are_changed(browser, server, shots, large):
    with Visit(browser, server, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True) as visit:
        page, example = visit.page, visit.result()
        visit.upload("#photo", large)
        first = visit.new_result(example)
        page.get_by_role("button", name="Red Hill").tap()
        visit.new_result(first)
        page.screenshot(path=shots / "phone-chosen.png")
        assert in_sight(page, "#result"), "it was below the gallery, the lists and the settings"
        for lower in ("#gallery", "#finish"):
            page.locator(lower).evaluate("e => e.scrollIntoView({ block: 'end' })")
            assert in_sight(page, "#result") and page.locator("#result").bounding_box()["height"] < 0.45 * 844
        page.set_viewport_size({"width": 683, "height": 844})  # as of a laptop's page at 200 %
        page.locator("#finish").evaluate("e => e.scrollIntoView({ block: 'end' })")
        assert in_sight(page, "#result")
        page.locator("#result [aria-label=Fullscreen]").tap()
        page.locator("#result.fullscreen").wait_for()
        assert page.locator("#result").bounding_box()["height"] == 844


def camera_on(visit) -> None:
    visit.tab("Camera")
    visit.page.locator("#camera-gallery img").first.wait_for()
    visit.page.locator("#camera button", has_text="Webcam").click()
    visit.page.locator("#camera button", has_text="Record").click()


def painted_now(page, before: np.ndarray | None = None) -> np.ndarray:
    """The camera's latest painting, another than ``before``."""
    for _ in range(200):
        src = page.evaluate("document.querySelector('#camera-painted img')?.src")
        if src and src.startswith("data:image/jpeg"):
            now = np.asarray(Image.open(BytesIO(base64.b64decode(src.partition(",")[2]))), float)
            if before is None or now.shape != before.shape or not np.array_equal(now, before):
                return now
        page.wait_for_timeout(100)
    raise AssertionError("no new painting came")


def test_the_camera_is_painted_while_styles_are_changed(visit, server, shots):
    page, status = visit.page, visit.page.locator("#camera-status p")
    files = server.files()
    camera_on(visit)
    first = painted_now(page)
    assert first.shape[:2] == (288, 384) and painted_now(page, first).shape == first.shape
    page.locator("#camera-gallery").get_by_role("button", name="Red Hill").click()
    page.wait_for_function("document.querySelector('#camera-gallery [aria-pressed=true]')?.title === 'Red Hill'")
    visit.choose("#camera-style", "My own painting")  # none is there yet
    status.get_by_text("Upload a painting first").wait_for()
    visit.choose("#camera-style", "Red Hill")
    visit.choose("#camera-other", "Blue Tree")
    for number in ("", "7"):  # as one types it
        page.locator("#camera-share input[type=number]").fill(number)
        status.get_by_text("The share of the second is a number from 0 to 1.").wait_for()
        page.locator("#camera-share input[type=number]").fill("0.3")
        status.get_by_text("a second").wait_for()
    assert not page.locator(".toast-body").count()
    page.locator("#camera-size").get_by_text("256 px").click()
    status.get_by_text(re.compile(r"^256 x 192 px, \d+ pictures? a second$")).wait_for()
    assert painted_now(page).shape[:2] == (192, 256)
    page.screenshot(path=shots / "camera.png")
    with page.expect_download() as download:
        page.locator("#camera-painted").get_by_label("Download").click()
    assert Image.open(download.value.path()).size == (256, 192)
    nothing_is_sent_while_the_camera_is_out_of_sight(visit)
    page.get_by_role("button", name="Stop", exact=True).click()
    status.get_by_text("Stopped: nothing is sent any more").wait_for()
    page.get_by_role("button", name="Record", exact=True).click()
    assert painted_now(page, painted_now(page)).shape[:2] == (192, 256)
    assert server.files() == files, "pictures of a camera are not kept"


def nothing_is_sent_while_the_camera_is_out_of_sight(visit) -> None:
    page, sent = visit.page, []
    page.on("request", lambda request: sent.append(1) if "/stream/" in request.url else None)
    hidden = "is => Object.defineProperty(document, 'hidden', { get: () => is, configurable: true })"

    def pictures(milliseconds: int) -> int:
        page.wait_for_timeout(300)  # what is on its way
        sent.clear()
        page.wait_for_timeout(milliseconds)
        return len(sent)

    visit.tab("Stylize")
    assert pictures(1000) == 0, "another tab of the page is shown"
    visit.tab("Camera")
    assert pictures(2000) > 0
    page.evaluate(hidden, True)
    assert pictures(1000) == 0, "another page is shown"
    page.evaluate(hidden, False)
    assert pictures(2000) > 0


def test_on_a_phone_the_painting_of_the_camera_is_in_sight_while_a_style_is_chosen(browser, server, shots):
    with Visit(browser, server, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True) as visit:
        camera_on(visit)
        painted_now(visit.page)
        for lower in ("#camera-gallery", "#camera-size"):
            visit.page.locator(lower).evaluate("e => e.scrollIntoView({ block: 'end' })")
            assert in_sight(visit.page, "#camera-painted")
            assert visit.page.locator("#camera-painted").bounding_box()["height"] < 0.45 * 844
        visit.page.screenshot(path=shots / "camera-phone.png")


def in_sight(page, where: str) -> bool:
    """Whether all of it is, and is above whatever else is there."""
    return page.locator(where).evaluate(
        """e => { const b = e.getBoundingClientRect(), x = b.x + b.width / 2;
        return b.top >= 0 && b.bottom <= innerHeight && [5, b.height / 2, b.height - 5].every(y => e.contains(document.elementFromPoint(x, b.y + y))) }"""
    )


def test_everything_has_a_name_for_a_screen_reader(visit):
    nameless = visit.page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([type=file]), [role=combobox], textarea, img")]
        .filter(e => e.offsetParent && !(e.ariaLabel || e.alt || e.title || e.innerText?.trim() || e.labels?.length
                     || e.placeholder || e.querySelector?.("img[alt]:not([alt=''])")))
        .map(e => e.outerHTML.slice(0, 200))"""
    )
    assert not nameless
    groups = visit.page.get_by_role("group").locator("visible=true")
    assert [group.get_attribute("aria-label") for group in groups.all()] == ["What is painted", "Brush strokes", "Kind of file"]
    visit.page.locator("#finish").focus()
    assert visit.page.evaluate("document.activeElement.id") == "finish"
    what_is_chosen_open_and_new_is_told(visit)
    keys_do_what_the_mouse_does(visit.page)
    what_is_english_is_read_as_english(visit.page)


def what_is_chosen_open_and_new_is_told(visit) -> None:
    page = visit.page
    pressed = "title => document.querySelector('#gallery [aria-pressed=true]')?.title === title"
    page.wait_for_function(pressed, arg="Blue Tree")
    visit.choose("#style", "Red Hill")
    page.wait_for_function(pressed, arg="Red Hill")
    visit.choose("#style", "Blue Tree")
    own = page.locator("#own button").first
    assert own.get_attribute("aria-expanded") == "false"
    own.click()
    page.wait_for_function("document.querySelector('#own button').ariaExpanded === 'true'")
    own.click()
    assert "example" in page.locator("#status [role=status]").inner_text()


def keys_do_what_the_mouse_does(page) -> None:
    line = page.locator("#result [data-testid=slider][style]:not([style=''])")  # its place is known when the pictures are there
    line.focus()
    before = line.get_attribute("style")
    page.keyboard.press("ArrowLeft")
    assert line.get_attribute("style") != before and int(line.get_attribute("aria-valuenow")) < 50
    box = line.locator("..").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 - 20, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2, steps=3)
    page.mouse.up()
    sync_api.expect(line).to_have_attribute("aria-valuenow", re.compile("^(79|80|81)$"), timeout=SLOW)
    line.focus()
    for key, end, number in (("ArrowRight", "max", "100"), ("ArrowLeft", "min", "0")):
        for _ in range(int(box["width"] / 20) + 2):  # beyond which it does not go
            page.keyboard.press(key)
        assert line.get_attribute("aria-valuenow") == line.get_attribute(f"aria-value{end}") == number
    page.locator("#finish").click()
    page.get_by_text("Add a photograph first").wait_for()
    assert page.locator(".toast-title").inner_text().strip() == "That did not work"
    page.locator("#status .error").wait_for(state="attached")
    assert not page.locator("#status .error").is_visible()  # it would stay over the line, whatever that says next
    page.get_by_label("range slider for Strength").first.focus()
    with page.expect_request(lambda request: "queue/join" in request.url and ",0.95," in request.post_data):
        page.keyboard.press("ArrowLeft")
    seen = "(e => [e, e.closest('label')].some(e => e && getComputedStyle(e).outlineStyle == 'solid'))(document.activeElement)"
    page.add_style_tag(content="[role=listbox] { max-height: 30px !important }")  # as long as that of thirty styles: it scrolls
    for kind in ("range", "number", "submit", "range", *3 * ["radio"], "checkbox", *3 * ["radio"], "text", "radio"):  # where the keys are is seen; a list opens
        assert page.evaluate("document.activeElement.type") == kind and (kind in ("text", "number") or page.evaluate(seen)), kind
        page.keyboard.press("Tab")
    page.wait_for_timeout(300)
    assert not page.locator("[role=listbox]").is_visible(), "the list that was left stays open over what is below it"


def what_is_english_is_read_as_english(page) -> None:
    """Whatever language is chosen for Gradio's own words."""
    page.get_by_role("button", name="Settings").click()
    page.locator("[role=dialog] input[role=combobox]").click()
    page.get_by_role("option", name="Deutsch").first.click()
    page.wait_for_function("document.documentElement.lang === 'de'")
    assert page.evaluate("document.querySelector('#heading').closest('[lang]').lang") == "en"
