"""The camera's tab without a browser: streams of several visitors, and what may be asked of them."""

from __future__ import annotations

import base64
import threading
import time
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest

pytest.importorskip("gradio")
from app_helpers import app_weights  # noqa: E402
from conftest import make_photo  # noqa: E402
from gradio.components.image import ImageData  # noqa: E402
from PIL import Image  # noqa: E402

from app import camera as module  # noqa: E402
from app.camera import Camera  # noqa: E402
from app.files import Shelf  # noqa: E402
from app.parts import Frame, Lens  # noqa: E402
from app.studio import PAINTING, Studio, Wish  # noqa: E402
from app.tab_camera import told  # noqa: E402
from stylenorm import Stylizer  # noqa: E402
from stylenorm.catalog import photos_folder  # noqa: E402
from stylenorm.errors import ImageError, StyleError, StylenormError  # noqa: E402

RED = Wish([("red-hill", 1)], size=256)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return app_weights(tmp_path_factory.mktemp("camera-weights"), compared=False)


@pytest.fixture
def studio(weights, tmp_path):
    return Studio(Stylizer(weights), Shelf(tmp_path / "shelf"), weights)


def seen(seed: int = 0, size=(320, 240)) -> bytes:
    """What a browser sends of a camera: a JPEG."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    small.resize(size, Image.Resampling.BICUBIC).save(buffer := BytesIO(), "JPEG")
    return buffer.getvalue()


def test_it_paints_as_a_stream_of_the_library(studio):
    camera = Camera(studio)
    stream = studio.stylizer.stream("red-hill", size=256, smoothing=module.STEADY)
    for n in range(3):
        painted, _ = camera.paint("ada", seen(n), RED, True)
        assert painted.size == (256, 192)
        assert np.array_equal(painted, stream(Image.open(BytesIO(seen(n)))))


def test_people_stay_as_they_are(studio):
    Image.open(photos_folder() / "astronaut.jpg").convert("RGB").resize((256, 256)).save(file := BytesIO(), "PNG")
    painted, _ = Camera(studio).paint("ada", file.getvalue(), replace(RED, where="background"), True)
    apart = np.abs(np.subtract(painted, Image.open(file), dtype=np.int16))
    assert not apart[45:75, 100:125].any() and apart[15:40, 48:70].mean() > 3


def test_what_holds_still_stays_only_where_that_is_wanted(studio):
    camera = Camera(studio)
    rng = np.random.default_rng(0)
    still = np.asarray(Image.open(BytesIO(seen()))).astype(int)

    def change(visitor: str, steady: bool) -> float:
        pictures = []
        for _ in range(4):
            noisy = np.clip(still + rng.integers(-6, 7, still.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(buffer := BytesIO(), "PNG")
            pictures.append(np.asarray(camera.paint(visitor, buffer.getvalue(), RED, steady)[0], float))
        return float(np.mean([np.abs(a - b).mean() for a, b in zip(pictures, pictures[1:])]))

    assert change("ada", True) < 0.6 * change("bob", False)


def test_another_wish_is_painted_from_the_next_picture_on(studio):
    camera = Camera(studio)
    first = camera.paint("ada", seen(), RED, False)[0]
    blend = Wish([("red-hill", 0.5), ("blue-tree", 0.5)], size=256)
    for wish in (Wish([("blue-tree", 1)], size=256), blend, Wish([("red-hill", 1)], size=256, strength=0.3), Wish([("red-hill", 1)], size=384)):
        painted = camera.paint("ada", seen(), wish, False)[0]
        assert painted.size[0] == wish.size
        assert painted.size != first.size or not np.array_equal(painted, first)
    assert np.array_equal(camera.paint("ada", seen(), RED, False)[0], first)


def test_the_same_wish_goes_on_with_its_stream_and_visitors_do_not_share_one(studio):
    camera = Camera(studio)
    camera.paint("ada", seen(), RED, True)
    first = camera._shown["ada"].stream
    camera.paint("ada", seen(1), Wish([["red-hill", 1]], size=256), True)  # lists come from the page
    camera.paint("bob", seen(), RED, True)
    assert camera._shown["ada"].stream is first is not camera._shown["bob"].stream


def test_an_uploaded_painting_is_a_style(studio, tmp_path):
    painting = make_photo(tmp_path / "painting.png", (90, 70))
    wish = Wish([(PAINTING, 1)], painting=str(painting), size=256)
    assert Camera(studio).paint("ada", seen(), wish, True)[0].size == (256, 192)


@pytest.mark.parametrize(
    ("picture", "wish", "told"),
    [
        (None, RED, "switch the camera on first"),
        (b"", RED, "switch the camera on first"),
        (b"no picture", RED, "the camera's picture"),
        (b"x" * 4_000_001, RED, "at most 4 MB"),
        (seen(), Wish([("red-hill", 1)], size=4096), "256, 384, 512 or 640 px, not 4096"),
        (seen(), Wish([("red-hill", 1)]), "not None"),
        (seen(), Wish([("nobody", 1)], size=256), "nobody"),
        (seen(), Wish([(PAINTING, 1)], size=256), "upload a painting first"),
        (seen(), Wish([("red-hill", 0)], size=256), "choose a style"),
    ],
)
def test_what_cannot_be_painted_is_told_and_the_stream_goes_on(studio, picture, wish, told):
    camera = Camera(studio)
    before = camera.paint("ada", seen(), RED, False)[0]
    with pytest.raises((ImageError, StyleError), match=told):
        camera.paint("ada", picture, wish, False)
    assert np.array_equal(camera.paint("ada", seen(), RED, False)[0], before)


def test_a_picture_of_too_many_pixels_is_not_decoded(studio):
    Image.new("L", (13000, 13000)).save(bomb := BytesIO(), "PNG")
    with pytest.raises(StylenormError, match="megapixels"):
        Camera(studio).paint("ada", bomb.getvalue(), RED, False)


def test_only_the_latest_visitors_are_remembered_and_who_leaves_is_not(studio, monkeypatch):
    monkeypatch.setattr(module, "MOST_STREAMS", 2)
    camera = Camera(studio)
    for visitor in ("ada", "bob", "ada", "eve"):
        camera.paint(visitor, seen(), RED, True)
    assert list(camera._shown) == ["ada", "eve"]
    camera.leave("ada")
    camera.leave("nobody")
    assert list(camera._shown) == ["eve"]


def test_the_pace_is_that_of_the_latest_pictures(studio, monkeypatch):
    now = iter([0.0, 0.5, 1.0, 60.0, 60.1])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    shown = module.Shown(last=-10.0)
    assert [module._pace(shown) for _ in range(5)] == [None, 2.0, 2.0, None, pytest.approx(10)]


@pytest.mark.parametrize("pace, line", [(None, ""), (0.5, ", 1 picture a second"), (1.4, ", 1 picture a second"), (9.6, ", 10 pictures a second")])
def test_the_pace_is_told_in_words(pace, line):
    assert told((384, 288), pace) == f"384 x 288 px{line}"


def test_several_visitors_at_once_get_their_own_paintings(studio):
    camera = Camera(studio)
    alone = {n: np.asarray(Camera(studio).paint("x", seen(n), RED, False)[0]) for n in range(4)}
    found: dict[int, np.ndarray] = {}

    def visit(n: int) -> None:
        for _ in range(3):
            found[n] = np.asarray(camera.paint(f"visitor {n}", seen(n), RED, False)[0])

    threads = [threading.Thread(target=visit, args=(n,)) for n in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[n], alone[n]) for n in alone)


def test_the_lens_hands_over_bytes_undecoded_and_the_frame_writes_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    lens, frame = Lens(sources=["webcam"], streaming=True), Frame()
    url = "data:image/jpeg;base64," + base64.b64encode(seen()).decode()
    assert lens.preprocess(ImageData(url=url)) == seen()
    assert lens.preprocess(None) is None
    assert lens.preprocess(ImageData(url="http://example.org/a.jpg")) is None
    shown = frame.postprocess(Image.new("RGB", (32, 16), "red"))
    header, _, data = shown.url.partition(",")
    assert header == "data:image/jpeg;base64" and Image.open(BytesIO(base64.b64decode(data))).size == (32, 16)
    assert frame.postprocess(None) is None and not list(tmp_path.iterdir())
