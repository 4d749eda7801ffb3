"""The app through its API, as programs use it, and its parts. The page itself: test_app_browser.py."""

from __future__ import annotations

import ast
import io
import shutil
import socket
import struct
import threading
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image, ImageCms

gradio_client = pytest.importorskip("gradio_client")
from app_helpers import ROOT, app_weights, running, wait_until  # noqa: E402
from gradio_client import Client, handle_file  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402

from app.archive import Results, items, safe_name  # noqa: E402
from app.files import Shelf  # noqa: E402
from app.training import thinned, watch  # noqa: E402
from stylenorm.errors import ImageError, StylenormError  # noqa: E402

ENDPOINTS = {
    "/styles", "/preview", "/stylize", "/regions", "/regions_file", "/folder", "/train_style", "/stop_training", "/compare"
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    weights = app_weights(tmp_path_factory.mktemp("app-weights"))
    with running(tmp_path_factory.mktemp("app"), weights, STYLENORM_APP_UPLOAD_MB="5", STYLENORM_APP_MEGAPIXELS="20") as server:
        server.weights = weights
        yield server


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    return new_client(server, tmp_path_factory.mktemp("downloads"))


def new_client(server, downloads: Path) -> Client:
    return Client(server.url, verbose=False, download_files=str(downloads), analytics_enabled=False)


def saved(button) -> Path:
    """The file behind a download button's answer."""
    return Path(button["value"] if isinstance(button, dict) else button)


def refused(client: Client, *args, **kwargs) -> str:
    with pytest.raises(AppError) as error:
        client.predict(*args, **kwargs)
    text = str(error.value)
    assert "Traceback" not in text and "\n" not in text.strip()
    return text


# ---- the API -----------------------------------------------------------------------------------


def test_every_action_has_a_name_and_a_description(client):
    api = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(api) == ENDPOINTS
    assert all(endpoint.get("description") for endpoint in api.values())


def test_styles(client):
    styles = client.predict(api_name="/styles")
    assert [s["name"] for s in styles][:3] == ["blue-tree", "red-hill", "tall-grass"]
    assert styles[1]["artist"] == "Jānis Krāsa" and "file" not in styles[1]


def test_preview_is_small_and_never_webp(client, tmp_path):
    photo = make_photo(tmp_path / "large.jpg", (1000, 500))
    pair, line, _ = client.predict(photo=handle_file(photo), style="red-hill", api_name="/preview")
    before, after = (Image.open(p) for p in pair)
    assert before.size == after.size == (768, 384)
    assert before.format == after.format == "JPEG"
    assert np.abs(np.asarray(before, float) - np.asarray(after, float)).mean() > 5
    assert "768" in line


def test_preview_of_a_small_photograph_is_not_enlarged(client, photo):
    pair, _, _ = client.predict(photo=handle_file(photo), style="red-hill", api_name="/preview")
    assert [Image.open(p).size for p in pair] == [(60, 44)] * 2


def test_the_file_has_full_size_and_keeps_exif_and_profile(client, tmp_path):
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "at the lake", 6
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = make_photo(tmp_path / "lake.jpg", (900, 600), exif=exif, icc_profile=icc)
    for format, kind in (("jpeg", "JPEG"), ("png", "PNG")):
        button, line = client.predict(photo=handle_file(photo), style="red-hill", format=format, api_name="/stylize")
        image = Image.open(saved(button))
        assert image.format == kind and image.size == (600, 900)  # upright
        assert image.getexif()[0x010E] == "at the lake" and image.info["icc_profile"] == icc
        assert saved(button).name.startswith("lake-painted")


def test_transparency_is_kept_and_hidden_colours_are_not_shown(client, tmp_path):
    pixels = np.full((64, 64, 4), 200, np.uint8)
    pixels[:, :32] = (255, 0, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "half.png")
    button, _ = client.predict(photo=handle_file(tmp_path / "half.png"), style="red-hill", format="png", api_name="/stylize")
    result = Image.open(saved(button))
    assert result.mode == "RGBA" and result.getchannel("A").getpixel((5, 5)) == 0


def test_settings_reach_the_library(client, photo):
    def painted_with(**settings):
        button, _ = client.predict(photo=handle_file(photo), style="red-hill", format="png", api_name="/stylize", **settings)
        return np.asarray(Image.open(saved(button)).convert("RGB"), float)

    plain, original = painted_with(), np.asarray(Image.open(photo), float)
    assert np.abs(painted_with(strength=0) - original).max() <= 1
    assert np.abs(painted_with(keep_colors=True) - plain).mean() > 1
    assert painted_with(size=120).shape[:2] == (88, 120)
    blended = painted_with(share=0.5, style_2="blue-tree", share_2=0.5)
    assert np.abs(blended - plain).mean() > 1
    assert np.array_equal(painted_with(share=0.5, style_2="blue-tree", share_2=0), plain)


def test_a_painting_as_style(client, photo, tmp_path):
    results = []
    for seed in (1, 2):
        painting = make_photo(tmp_path / f"painting{seed}.jpg", (120, 90), seed)
        button, _ = client.predict(
            photo=handle_file(photo), style=":painting", painting=handle_file(painting), format="png", api_name="/stylize"
        )
        results.append(np.asarray(Image.open(saved(button)), float))
    assert np.abs(results[0] - results[1]).mean() > 0.1
    assert "upload a painting" in refused(client, photo=handle_file(photo), style=":painting", api_name="/stylize").lower()


def test_a_style_file(client, server, photo, tmp_path, other_weights):
    def with_file(path):
        return {"photo": handle_file(photo), "style": ":file", "style_file": handle_file(path), "api_name": "/stylize", "format": "png"}

    mine = shutil.copy(server.weights / "styles" / "red-hill.safetensors", tmp_path / "mine.safetensors")
    button, _ = client.predict(**with_file(mine))
    named, _ = client.predict(photo=handle_file(photo), style="red-hill", format="png", api_name="/stylize")
    assert np.array_equal(np.asarray(Image.open(saved(button))), np.asarray(Image.open(saved(named))))

    other = other_weights / "styles" / "red-hill.safetensors"
    assert "another network" in refused(client, **with_file(other))
    (tmp_path / "evil.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/pwned'\ntR.")
    text = refused(client, **with_file(tmp_path / "evil.safetensors"))
    assert "evil.safetensors" in text.lower() and str(server.folder) not in text


def test_regions(client, tmp_path):
    photo = make_photo(tmp_path / "p.jpg", (200, 100))
    mask = np.zeros((100, 200, 4), np.uint8)
    mask[:, :100] = (255, 0, 0, 255)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    drawing = {"background": None, "layers": [handle_file(tmp_path / "mask.png")], "composite": None}
    common = {"photo": handle_file(photo), "mask": drawing, "outside": "blue-tree", "edge": 0, "api_name": "/regions_file"}
    both = np.asarray(Image.open(saved(client.predict(inside="red-hill", format="png", **common))), float)
    assert both.shape == (100, 200, 3)

    def alone(style: str) -> np.ndarray:
        button, _ = client.predict(photo=handle_file(photo), style=style, format="png", api_name="/stylize")
        return np.abs(np.asarray(Image.open(saved(button)), float) - both).mean((0, 2))

    red, blue = alone("red-hill"), alone("blue-tree")  # how far both is from one style everywhere
    assert red[:80].mean() < blue[:80].mean() and blue[120:].mean() < red[120:].mean()
    pair, _ = client.predict(photo=handle_file(photo), mask=drawing, inside="red-hill", outside="blue-tree", api_name="/regions")
    assert Image.open(pair[1]).size == (200, 100)
    empty = {"background": None, "layers": [], "composite": None}
    assert "paint over" in refused(client, **{**common, "mask": empty}, inside="red-hill").lower()


def make_zip(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_folder(client, tmp_path):
    good = make_photo(tmp_path / "b.png", (50, 40)).read_bytes()
    names = {"trip/a.png": good, "trip/deep/a.png": good, "../../up.png": good, "trip/broken.jpg": b"no picture", "a.txt": b"hello"}
    archive = make_zip(tmp_path / "photos.zip", **names)
    inputs = [handle_file(archive), handle_file(make_photo(tmp_path / "alone.jpg"))]
    line, table, result = client.predict(files=inputs, style="red-hill", api_name="/folder")
    rows = {row[0]: row[1:] for row in table["data"]}
    assert set(rows) == {"trip/a.png", "trip/deep/a.png", "up.png", "trip/broken.jpg", "a.txt", "alone.jpg"}
    assert rows["trip/broken.jpg"][0] == rows["a.txt"][0] == "left out" and "not a picture" in rows["a.txt"][1]
    with zipfile.ZipFile(result) as archive:
        assert set(archive.namelist()) == {"trip/a.jpg", "trip/deep/a.jpg", "up.jpg", "alone.jpg"}
        assert Image.open(io.BytesIO(archive.read("trip/deep/a.jpg"))).size == (50, 40)
    assert "4 of 6 painted, 2 left out" in line


def test_folder_says_how_far_it_is(client, tmp_path):
    photos = [handle_file(make_photo(tmp_path / f"{i}.jpg")) for i in range(4)]
    job = client.submit(files=photos, style="red-hill", api_name="/folder")
    job.result(timeout=120)
    lines = [output[0] for output in job.outputs()]
    assert lines[0] == "0 of 4" and any("left" in line for line in lines) and lines[-1].startswith("Done: 4 of 4")


@pytest.mark.slow
def test_training_a_style_then_using_it(client, server, photo, tmp_path):
    painting = handle_file(make_photo(tmp_path / "garden.jpg", (128, 96), 3))
    job = client.submit(painting=painting, name="my garden", minutes=0.1, api_name="/train_style")
    line, preview, curve, file = job.result(timeout=300)
    assert "my garden" in line
    assert Image.open(preview["value"] if isinstance(preview, dict) and "value" in preview else preview).format == "JPEG"
    assert (server.home / "styles" / "my garden.safetensors").is_file()
    assert "my garden" in [s["name"] for s in client.predict(api_name="/styles")]
    button, _ = client.predict(photo=handle_file(photo), style="my garden", api_name="/stylize")
    assert Image.open(saved(button)).size == (60, 44)
    text = refused(client, painting=painting, name="my garden", minutes=0.1, api_name="/train_style")
    assert "already" in text
    assert "cannot name" in refused(client, painting=painting, name="../evil", minutes=0.1, api_name="/train_style")


def test_stopping_a_training_leaves_nothing_behind(client, server, tmp_path):
    assert client.predict(api_name="/stop_training") == "No training is at work."
    painting = handle_file(make_photo(tmp_path / "p.jpg", (128, 96), 4))
    job = client.submit(painting=painting, name="never", minutes=5, api_name="/train_style")
    assert wait_until(lambda: any("Step" in output[0] for output in job.outputs()), 200)
    # while it runs, pictures are still painted, and a second long job is told to wait
    assert client.predict(photo=handle_file(make_photo(tmp_path / "q.jpg")), style="red-hill", api_name="/preview")
    assert "try again" in refused(client, painting=painting, name="other", minutes=1, api_name="/train_style")
    assert client.predict(api_name="/stop_training") == "Stopping."
    assert "nothing was kept" in job.result(timeout=100)[0]
    assert not list(server.home.rglob("*never*"))
    assert "never" not in [s["name"] for s in client.predict(api_name="/styles")]


def test_a_whole_network_can_be_trained_where_the_operator_allows_a_folder_and_there_is_a_gpu(weights, tmp_path, monkeypatch):
    from functools import partial

    from app import tab_train
    from app.main import build
    from stylenorm.checkpoint import load_network
    from stylenorm.config import TrainConfig

    def actions() -> dict:
        return {f.api_name: f.fn for f in build(weights, tmp_path / "page").fns.values() if f.api_name}

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))
    for name in ("photos", "styles", "paintings"):
        make_photo(tmp_path / "allowed" / name / "one.jpg", (80, 70), seed=len(name))
    monkeypatch.setattr(tab_train, "gpu", lambda: True)
    assert "train_network" not in actions()
    monkeypatch.setenv("STYLENORM_APP_TRAIN_FOLDER", str(tmp_path / "allowed"))
    monkeypatch.setattr(tab_train, "gpu", lambda: False)
    assert "train_network" not in actions()
    monkeypatch.setattr(tab_train, "gpu", lambda: True)
    small = {"size": 64, "batch": 1, "widths": (8, 16), "blocks": (0, 1), "style_size": 64, "painting_size": 64, "num_groups": 4}
    monkeypatch.setattr(tab_train, "TrainConfig", partial(TrainConfig, vgg=str(ROOT / "weights" / "vgg16.safetensors"), **small))
    *_, last = actions()["train_network"](2, None)
    assert "Done" in last[0]
    (network,) = (tmp_path / "allowed").glob("network-*/network.safetensors")
    assert load_network(network).encoder is not None  # it learned from the paintings, too


def test_compare(client, photo):
    shown = client.predict(photo=handle_file(photo), style="red-hill", api_name="/compare")
    captions = [item["caption"] for item in shown]
    assert len(shown) == 5 and captions[0] == "The photograph"
    assert [c.split()[0] for c in captions[1:]] == ["Instance", "Batch", "Layer", "Group"]
    pictures = [np.asarray(Image.open(item["image"]), float) for item in shown]
    assert all(np.abs(a - b).mean() > 0.5 for a, b in zip(pictures[1:], pictures[2:]))


def test_two_people_at_once_get_their_own_results(server, tmp_path):
    answers: dict[int, list] = {0: [], 1: []}

    def person(number: int) -> None:
        client = new_client(server, tmp_path / f"downloads{number}")
        photo = make_photo(tmp_path / f"photo{number}.jpg", (60 + 20 * number, 44), number)
        for _ in range(3):
            button, _ = client.predict(photo=handle_file(photo), style=["red-hill", "blue-tree"][number], api_name="/stylize")
            answers[number].append((saved(button).name, Image.open(saved(button)).size))

    people = [threading.Thread(target=person, args=(n,)) for n in (0, 1)]
    [p.start() for p in people]
    [p.join(120) for p in people]
    assert answers == {n: [(f"photo{n}-painted.jpg", (60 + 20 * n, 44))] * 3 for n in (0, 1)}


# ---- safety ------------------------------------------------------------------------------------


def bomb(path: Path, side: int = 20000) -> Path:
    """A small PNG of 400 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side // 8)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def test_a_bomb_gets_a_sentence(client, server, tmp_path):
    path = bomb(tmp_path / "bomb.png")
    assert path.stat().st_size < 100_000
    before = server.memory()
    for name in ("/preview", "/stylize"):
        text = refused(client, photo=handle_file(path), style="red-hill", api_name=name)
        assert "bomb.png has 400 megapixels" in text.lower().replace("Bomb", "bomb")
    drawing = {"background": None, "layers": [handle_file(path)], "composite": None}
    photo = handle_file(make_photo(tmp_path / "p.jpg"))
    assert "400 megapixels" in refused(client, photo=photo, mask=drawing, inside="red-hill", outside="red-hill", api_name="/regions")
    assert server.memory() - before < 100e6


def test_the_result_is_limited_too(client, photo):
    assert "size" in refused(client, photo=handle_file(photo), style="red-hill", size=100000, api_name="/stylize")
    assert "size" in refused(client, photo=handle_file(photo), style="red-hill", size=8000, api_name="/stylize")


@pytest.mark.parametrize(
    "content, name, expected",
    [
        (b"just some words", "words.jpg", "not a picture"),
        (b"", "empty.png", "empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "drawing.svg", "not a picture"),
    ],
)
def test_what_is_no_picture_gets_a_sentence(client, tmp_path, content, name, expected):
    (tmp_path / name).write_bytes(content)
    text = refused(client, photo=handle_file(tmp_path / name), style="red-hill", api_name="/stylize")
    assert expected in text and name.split(".")[1] in text


def test_formats_are_told_by_content(client, tmp_path):
    make_photo(tmp_path / "a.png", (40, 30))
    path = (tmp_path / "a.png").rename(tmp_path / "really-a-png.jpg")
    button, _ = client.predict(photo=handle_file(path), style="red-hill", api_name="/stylize")
    assert Image.open(saved(button)).size == (40, 30)


def test_messages_cannot_hold_html(client, tmp_path):
    (tmp_path / "words.jpg").write_bytes(b"words")
    photo = handle_file(tmp_path / "words.jpg")
    assert "<img" not in refused(client, photo=photo, style="<img src=x onerror=alert(1)>", api_name="/stylize")
    assert "<b>" not in refused(client, photo=handle_file(make_photo(tmp_path / "p.jpg")), style="<b>x", api_name="/stylize")


def test_addresses_and_paths_are_never_opened(client, server, tmp_path):
    import httpx

    called = []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.5)

    def listen():
        for _ in range(8):
            try:
                called.append(listener.accept())
            except TimeoutError:
                pass

    thread = threading.Thread(target=listen)
    thread.start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/photo.jpg"
    inputs = len(client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/stylize"]["parameters"])
    for path, slot in [(address, 0), (address, 1), (address, 9), ("/etc/hostname", 0), (str(ROOT / "examples/coffee.jpg"), 0)]:
        data = [None] * inputs
        data[slot] = {"path": path, "meta": {"_type": "gradio.FileData"}}
        answer = httpx.post(f"{server.url}gradio_api/call/stylize", json={"data": data})
        event = answer.json()["event_id"]
        with httpx.stream("GET", f"{server.url}gradio_api/call/stylize/{event}", timeout=60) as stream:
            assert "event: error" in stream.read().decode()
    for path in ("/etc/hostname", str(ROOT / "pyproject.toml"), str(server.weights / "network.safetensors")):
        assert httpx.get(f"{server.url}gradio_api/file={path}").status_code in (403, 404)
    thread.join()
    listener.close()
    assert not called


def test_uploads_are_limited(server, tmp_path):
    import httpx

    def upload(size: int) -> int:
        return httpx.post(f"{server.url}gradio_api/upload", files={"files": ("a.bin", bytes(size))}).status_code

    assert upload(1000) == 200 and upload(6_000_000) == 413


def test_the_page_names_nothing_outside(server):
    import httpx

    config = httpx.get(f"{server.url}config").json()
    assert config["analytics_enabled"] is False
    assert not config.get("stylesheets")
    theme = httpx.get(f"{server.url}theme.css").text
    assert "http://" not in theme.replace("http://www.w3.org", "") and "https://" not in theme
    assert all(d["queue"] is not True or d["api_visibility"] for d in config["dependencies"])


@pytest.fixture(scope="module")
def page(weights, tmp_path_factory):
    """The page without a server, and without networks to compare."""
    from app.main import build

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("page")
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        yield build(weights, folder)


def test_everything_that_uses_the_network_shares_a_queue(page):
    from app.main import QUEUED

    named = {f.api_name: f for f in page.fns.values() if f.api_name}
    for name in ENDPOINTS - {"/styles", "/stop_training", "/compare"}:
        assert named[name.strip("/")].concurrency_id == "network", name
    assert page.max_threads and page._queue.max_size == QUEUED and page.delete_cache
    assert not page.analytics_enabled


def test_where_there_is_nothing_to_compare_the_page_has_no_such_tab(page):
    assert "Compare" not in {getattr(block, "label", None) for block in page.blocks.values()}
    assert "compare" not in {f.api_name for f in page.fns.values()}


def grown(server, client, tmp_path, requests: int, size=(1500, 1000)) -> tuple[int, int]:
    """Bytes of memory and of disk that so many requests with a new photograph each leave behind."""
    first = make_photo(tmp_path / "warm.jpg", size)

    def one(number: int) -> None:
        path = tmp_path / f"photo{number}.jpg"
        path.write_bytes(first.read_bytes() + bytes([number % 256, number // 256]))  # another file for the server
        button, _ = client.predict(photo=handle_file(path), style="red-hill", size=256, api_name="/stylize")
        client.predict(photo=handle_file(path), style="red-hill", api_name="/preview")
        saved(button).unlink()
        path.unlink()

    for number in range(3):
        one(number)
    memory, disk = server.memory(), server.disk()
    for number in range(3, 3 + requests):
        one(number)
    return server.memory() - memory, server.disk() - disk


def test_a_few_requests_leave_no_files_behind(server, client, tmp_path):
    _, disk = grown(server, client, tmp_path, 4, size=(600, 400))
    assert disk < 100_000  # four photographs, previews and results are more than three times that


@pytest.mark.slow
def test_two_hundred_requests_leave_nothing_behind(server, client, tmp_path):
    memory, disk = grown(server, client, tmp_path, 200)
    assert disk < 300_000  # a photograph's file
    assert memory < 20e6  # the photograph's pixels are 4.5 MB, and allocators are not exact


def test_an_installed_copy_starts_anywhere_and_asks_for_the_password(weights, tmp_path):
    import httpx

    site = tmp_path / "site"
    shutil.copytree(ROOT / "stylenorm", site / "stylenorm", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "app", site / "stylenorm" / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "examples", site / "stylenorm" / "examples")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    settings = {"PYTHONPATH": str(site), "STYLENORM_APP_AUTH": "ada:secret:word"}
    with running(tmp_path, weights, ("-m", "stylenorm.app"), elsewhere, **settings) as server:
        assert httpx.get(f"{server.url}config").status_code == 401
        assert httpx.post(f"{server.url}gradio_api/call/styles", json={"data": []}).status_code == 401
        assert httpx.post(f"{server.url}login", data={"username": "ada", "password": "secret:word"}).status_code == 200
        assert httpx.post(f"{server.url}login", data={"username": "ada", "password": "secret"}).status_code == 400
        assert server.files() > 0
    assert not list(site.rglob("*.pyi")), "Gradio wrote into the package, which may be read-only"
    assert not list(elsewhere.iterdir()), "it wrote into the folder that it was started in"
    assert wait_until(lambda: not list(server.folder.glob("stylenorm-app-*")), 5), "its temporary folder is still there"


def test_a_wrong_password_setting_stops_the_app(weights, tmp_path, monkeypatch):
    from app.main import launch

    monkeypatch.setenv("STYLENORM_APP_AUTH", "only-a-name")
    with pytest.raises(StylenormError, match="user:password"):
        launch(weights=weights)


# ---- parts -------------------------------------------------------------------------------------


def test_gradio_is_told_before_it_is_imported():
    names = [n for p in (ROOT / "app" / "main.py",) for n in ast.parse(p.read_text()).body]
    tops = [n for n in names if isinstance(n, (ast.Import, ast.ImportFrom))]
    assert not any("gradio" in (getattr(n, "module", None) or "") or "gradio" in {a.name for a in n.names} for n in tops)


def test_a_shelf_deletes_what_nobody_holds(tmp_path):
    shelf = Shelf(tmp_path)

    def made(name: str) -> Path:
        path = shelf.new(name)
        path.write_text(name)
        return path

    a, b, c, kept = (made(n) for n in "abck")
    shelf.keep(kept)
    shelf.hold("ada", "photo", [a, kept])
    shelf.hold("bob", "photo", [a])
    shelf.hold("ada", "photo", [b])
    assert a.exists() and kept.exists()  # bob has it, too
    shelf.hold("bob", "photo", [c])
    assert not a.exists() and not a.parent.exists() and b.exists()
    shelf.leave("ada")
    shelf.leave("nobody")
    assert not b.exists() and c.exists() and kept.exists()


def test_a_shelf_deletes_nothing_outside_and_forgets_old_visitors(tmp_path, monkeypatch):
    monkeypatch.setattr("app.files.MOST_VISITORS", 2)
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    shelf = Shelf(tmp_path / "shelf")
    files = []
    for number in range(4):
        files.append(shelf.new("x"))
        files[-1].write_text("x")
        shelf.hold(str(number), "photo", [files[-1], outside])
    assert [f.exists() for f in files] == [False, False, True, True] and outside.exists()
    shelf.leave("3")
    assert outside.exists()


@pytest.mark.parametrize(
    "name, expected",
    [
        ("a/b.jpg", "a/b.jpg"), ("../../etc/passwd", "etc/passwd"), ("/abs/x.png", "abs/x.png"), ("C:\\win\\x.png", "C_/win/x.png"),
        ("..", "picture"), ("a//./b.png", "a/b.png"), ("a\n\x00b.png", "a__b.png"), ("é ü/日本.png", "é ü/日本.png"),
    ],
)  # fmt: skip
def test_safe_names(name, expected):
    assert safe_name(name) == expected


def test_results_keep_names_apart(tmp_path):
    with Results(tmp_path / "r.zip", "jpeg") as results:
        names = [results.add(n, b"x") for n in ("a.png", "A.jpg", "a.tif", "no-suffix", "d.dir/a.png", "v1.2/pic")]
    assert names == ["a.jpg", "A-2.jpg", "a-3.jpg", "no-suffix.jpg", "d.dir/a.jpg", "v1.2/pic.jpg"]


def test_zips_are_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr("app.archive.MOST_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(100_000))
        archive.writestr("ok.png", b"fine", zipfile.ZIP_STORED)
        archive.writestr("__MACOSX/._ok.png", b"")
        archive.writestr(".hidden", b"")
        archive.mkdir("folder")
    found = items([tmp_path / "z.zip"])
    assert [i.name for i in found] == ["bomb.png", "ok.png"]
    with pytest.raises(ImageError, match="bomb.png unpacks to more"):
        found[0].read()
    assert found[1].read() == b"fine"
    data = bytearray((tmp_path / "z.zip").read_bytes())
    at = data.index(b"fine")
    data[at : at + 4] = b"grim"
    (tmp_path / "damaged.zip").write_bytes(data)
    with pytest.raises(ImageError, match="ok.png cannot be unpacked"):
        items([tmp_path / "damaged.zip"])[1].read()
    monkeypatch.setattr("app.archive.MOST_FILES", 1)
    with pytest.raises(StylenormError, match="more than 1 files"):
        items([tmp_path / "z.zip"])
    with pytest.raises(StylenormError, match="no picture"):
        items([])


def test_watching_a_training():
    class Update:
        def __init__(self, step):
            self.step, self.style, self.content = step, 1 / step, 0.5

    def work(progress):
        for step in range(1, 4):
            progress(Update(step))
            time.sleep(0.05)
        return "made"

    seen = list(watch(work, threading.Event(), every=0.02))
    assert seen[-1].result == "made" and [c[0] for c in seen[-1].curve] == [1, 2, 3]

    def failing(progress):
        raise StylenormError("no")

    with pytest.raises(StylenormError, match="no"):
        list(watch(failing, threading.Event(), every=0.02))

    stop, ended = threading.Event(), threading.Event()

    def endless(progress):
        progress(Update(1))
        stop.wait(20)
        ended.set()

    reader, started = watch(endless, stop, every=0.02), time.monotonic()
    next(reader)
    reader.close()  # the page was closed
    assert stop.is_set() and ended.is_set()  # and the thread was waited for
    assert time.monotonic() - started < 10


def test_curves_are_thinned():
    curve = [(i, 0, 0) for i in range(1001)]
    assert len(thinned(curve)) < 250 and thinned(curve)[-1][0] == 1000 and thinned(curve[:3]) == curve[:3]
