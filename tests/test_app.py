"""The app through its API, as programs use it.

What must not happen: test_app_safety.py. What it is made of: test_app_parts.py. The page itself: test_app_browser.py.
"""

from __future__ import annotations

import io
import re
import shutil
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image, ImageCms

pytest.importorskip("gradio_client")
from app_helpers import ENDPOINTS, ROOT, app_client, app_server, new_client, refused, saved, wait_until  # noqa: E402, F401
from gradio_client import handle_file  # noqa: E402

from stylenorm.catalog import photos_folder  # noqa: E402
from stylenorm.checkpoint import load_style, save_style  # noqa: E402


def test_every_action_has_a_name_and_a_description(client):
    api = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(api) == ENDPOINTS
    assert all(endpoint.get("description") for endpoint in api.values())
    told = [part["label"] for endpoint in api.values() for kind in ("parameters", "returns") for part in endpoint[kind]]
    assert not [label for label in told if label.startswith("value_")], "which is what Gradio calls what has no label"


def test_styles(client):
    styles = client.predict(api_name="/styles")
    assert [s["name"] for s in styles][:3] == ["blue-tree", "red-hill", "tall-grass"]
    assert styles[1]["artist"] == "Jānis Krāsa" and "file" not in styles[1]


def test_a_style_that_came_from_elsewhere_while_the_app_runs_is_listed_and_painted(client, server, photo):
    style = replace(load_style(server.weights / "styles" / "red-hill.safetensors"), name="from-elsewhere")
    file = server.home / "styles" / "from-elsewhere.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_style(file, style)
    try:
        assert "from-elsewhere" in [s["name"] for s in client.predict(api_name="/styles")]
        assert client.predict(photo=handle_file(photo), style="from-elsewhere", api_name="/preview")
    finally:
        file.unlink()
    assert "from-elsewhere" not in [s["name"] for s in client.predict(api_name="/styles")]


def test_preview_is_small_and_never_webp(client, tmp_path):
    photo = make_photo(tmp_path / "large.jpg", (2000, 1000))
    pair, line, _ = client.predict(photo=handle_file(photo), style="red-hill", api_name="/preview")
    before, after = (Image.open(p) for p in pair)
    assert before.size == after.size == (1568, 784)  # 1.2 megapixels
    assert before.format == after.format == "JPEG"
    assert np.abs(np.asarray(before, float) - np.asarray(after, float)).mean() > 5
    assert line.startswith("A preview")


def test_the_file_looks_as_the_preview_does(client, tmp_path):
    """With strokes as large against the picture, whatever its size."""
    photo, previews, files = handle_file(make_photo(tmp_path / "large.jpg", (2000, 800))), {}, {}
    for strokes in (1, 1.6, 0.625):
        wish = {"photo": photo, "style": "red-hill", "strokes": strokes}
        (_, preview), *_ = client.predict(**wish, api_name="/preview")
        button, _ = client.predict(**wish, format="png", api_name="/stylize")
        previews[strokes], file = (Image.open(path).convert("RGB") for path in (preview, button["value"]))
        assert file.size == (2000, 800)
        files[strokes] = file.resize(previews[strokes].size, Image.Resampling.LANCZOS)
    for strokes, file in files.items():
        apart = {n: np.abs(np.asarray(file, float) - np.asarray(preview, float)).mean() for n, preview in previews.items()}
        assert min(apart, key=apart.get) == strokes and sorted(apart.values())[1] > 1.3 * apart[strokes], apart
    with pytest.raises(Exception, match="1.6, 1, 0.625"):
        client.predict(photo=photo, style="red-hill", strokes=7, api_name="/preview")


def test_preview_of_a_small_photograph_is_not_enlarged(client, photo):
    pair, _, _ = client.predict(photo=handle_file(photo), style="red-hill", api_name="/preview")
    assert [Image.open(p).size for p in pair] == [(60, 44)] * 2


def test_of_an_animation_the_first_frame_is_painted_and_that_is_told(client, photo, tmp_path):
    first, *more = (Image.open(make_photo(tmp_path / f"{n}.png", (40, 30), n)) for n in range(3))
    first.save(tmp_path / "moving.gif", save_all=True, append_images=more, duration=50)
    lines = [client.predict(photo=handle_file(p), style="red-hill", api_name="/preview")[1] for p in (photo, tmp_path / "moving.gif")]
    assert ["first frame" in line for line in lines] == [False, True]
    archive = make_zip(tmp_path / "zipped.zip", **{"a.gif": (tmp_path / "moving.gif").read_bytes()})
    _, table, _ = client.predict(files=[handle_file(archive), handle_file(photo)], style="red-hill", api_name="/folder")
    assert ["first frame" in row[2] for row in table["data"]] == [True, False]


def test_without_a_photograph_the_example_is_painted_in_the_style_that_was_chosen(client):
    answers = [client.predict(style=style, api_name="/preview") for style in ("red-hill", "blue-tree")]
    (red, blue) = (np.asarray(Image.open(after), float) for (_, after), *_ in answers)
    assert np.abs(red - blue).mean() > 1 and all("example" in line for _, line, _ in answers)


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


def test_a_paintings_style_is_brought_nearer_on_the_photograph(client, photo, tmp_path):
    painting = make_photo(tmp_path / "painting.jpg", (120, 90), 1)
    asked = dict(photo=handle_file(photo), style=":painting", painting=handle_file(painting))
    plain, closer = (
        np.asarray(Image.open(saved(client.predict(**asked, closer=choice, format="png", api_name="/stylize")[0])), float)
        for choice in (False, True)
    )
    assert np.abs(plain - closer).mean() > 0.5
    (_, after), *_ = client.predict(**asked, closer=True, api_name="/preview")
    shown = np.asarray(Image.open(after), float)  # a JPEG of the same
    assert np.abs(shown - closer).mean() < np.abs(shown - plain).mean()


def test_what_was_the_photograph_may_be_the_painting_or_the_mask_next(client, photo, tmp_path):
    other = handle_file(make_photo(tmp_path / "other.jpg", (60, 44), 5))
    first = handle_file(photo)
    for one, two in ((first, other), (other, first)):
        assert client.predict(photo=one, style=":painting", painting=two, api_name="/preview")
    mask = {"background": None, "layers": [first], "composite": None}
    for one in (first, other):
        assert client.predict(photo=one, mask=mask, inside="red-hill", outside="blue-tree", api_name="/regions")


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
    kept = np.asarray(Image.open(saved(client.predict(inside="", format="png", follow=True, **common))), float)
    untouched = np.asarray(Image.open(photo), float)
    assert np.array_equal(kept[:, 20:60], untouched[:, 20:60]) and not np.array_equal(kept[:, 140:], untouched[:, 140:])
    assert "one of the two parts" in refused(client, **{**common, "outside": ""}, inside="")
    empty = {"background": None, "layers": [], "composite": None}
    assert "paint over" in refused(client, **{**common, "mask": empty}, inside="red-hill").lower()


def test_people_are_found_and_they_or_all_else_is_painted(client, tmp_path):
    astronaut = Image.open(photos_folder() / "astronaut.jpg").convert("RGB").resize((200, 200))
    astronaut.save(tmp_path / "me.png")
    photo, before = handle_file(tmp_path / "me.png"), np.asarray(astronaut, float)
    face, wall = (slice(38, 56), slice(80, 96)), (slice(15, 35), slice(40, 55))

    def painted(**settings) -> list[bool]:
        """Whether her face, and the wall, are."""
        button = client.predict(photo=photo, format="png", **settings)
        image = np.asarray(Image.open(saved(button[0] if isinstance(button, tuple) else button)).convert("RGB"), float)
        return [bool(np.abs(image - before)[part].mean() > 3) for part in (face, wall)]

    one = {"style": "red-hill", "api_name": "/stylize"}
    assert [painted(where=where, **one) for where in ("", "people", "background")] == [[True, True], [True, False], [False, True]]
    pair, *_ = client.predict(photo=photo, style="red-hill", where="people", api_name="/preview")
    assert np.abs(np.asarray(Image.open(pair[1]), float) - before)[wall].max() < 8, "but for JPEG"
    empty = {"background": None, "layers": [], "composite": None}
    part = {"mask": empty, "part": "people", "api_name": "/regions_file"}
    styles = (("red-hill", ""), ("", "red-hill"), ("red-hill", "blue-tree"))
    assert [painted(inside=i, outside=o, **part) for i, o in styles] == [[True, False], [False, True], [True, True]]
    with zipfile.ZipFile(client.predict(files=[photo], style="red-hill", where="background", format="png", api_name="/folder")[2]) as made:
        image = np.asarray(Image.open(made.open("me.png")).convert("RGB"), float)
    assert not np.abs(image - before)[face].any() and np.abs(image - before)[wall].mean() > 3
    assert "'pets'" in refused(client, photo=photo, where="pets", **one)
    assert "'pets'" in refused(client, photo=photo, mask=empty, inside="red-hill", outside="", part="pets", api_name="/regions")


def test_generate(client, tmp_path):
    common = {"style": "red-hill", "width": 96, "height": 64, "format": "png", "api_name": "/generate"}
    shown, four, button = client.predict(seed=3, **common)
    picture = np.asarray(Image.open(saved(button)), float)
    assert picture.shape == (64, 96, 3) and Image.open(shown).size == (96, 64) and not four["value"] and not four["visible"]
    again, other = (np.asarray(Image.open(saved(client.predict(seed=n, **common)[2])), float) for n in (3, 4))
    assert np.array_equal(again, picture) and np.abs(other - picture).mean() > 1

    _, four, button = client.predict(seed=3, seamless=True, **common | {"width": 100})
    tile, repeated = Image.open(saved(button)), Image.open(four["value"])
    assert tile.size == (96, 64) and repeated.size == (192, 128)  # rounded to what a seamless one needs
    assert np.abs(np.asarray(repeated, float)[:64, 96:] - np.asarray(tile, float)).mean() < 6  # JPEG

    layer = np.zeros((32, 48, 4), np.uint8)
    layer[:, :24] = (0xE0, 0xC0, 0x20, 255)
    Image.fromarray(layer).save(tmp_path / "layer.png")
    drawn = {"background": None, "layers": [handle_file(tmp_path / "layer.png")], "composite": None}
    wide = common | {"width": 512, "height": 64, "seed": 3, "soft": 0}
    both = np.asarray(Image.open(saved(client.predict(layout=drawn, gold="blue-tree", **wide)[2])), float)
    plain = np.asarray(Image.open(saved(client.predict(**wide)[2])), float)
    apart = np.abs(both - plain).mean((0, 2))
    assert apart[:200].mean() > 5 and apart[-100:].mean() < 1
    assert "choose a style for what you painted gold" in refused(client, layout=drawn, **wide).lower()
    assert "megapixels" in refused(client, **common | {"width": 9000, "height": 9000})
    assert "64" in refused(client, **common | {"width": 20})
    assert "not empty" in refused(client, **common | {"width": None})


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


def test_a_program_can_stop_a_folder_and_a_picture_from_noise(client, photo, tmp_path):
    assert client.predict(api_name="/stop_folder") == "Nothing is being painted."
    assert client.predict(api_name="/stop_generate") == "No picture is being made."
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as many:
        for i in range(500):
            many.write(photo, f"{i}.jpg")
    job = client.submit(files=[handle_file(tmp_path / "many.zip")], style="red-hill", api_name="/folder")
    assert wait_until(lambda: len(job.outputs()) > 1)
    assert client.predict(api_name="/stop_folder").startswith("Stopping")
    line, _, result = job.result(timeout=100)
    assert re.fullmatch(r"Stopped: \d+ of 500 painted", line)
    with zipfile.ZipFile(result) as archive:
        assert len(archive.namelist()) == int(line.split()[1])
    job = client.submit(style="red-hill", width=40000, height=192, api_name="/generate")
    assert wait_until(lambda: client.predict(api_name="/stop_generate") == "Stopping.")
    assert not any(isinstance(part, str) for part in job.result(timeout=100)), "a picture was made"


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
    assert "name first" in refused(client, painting=painting, name=" ", minutes=5, api_name="/train_style")
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
    assert [c.split()[0] for c in captions[1:]] == ["Instance", "Layer", "Group", "Batch"]
    pictures = [np.asarray(Image.open(item["image"]), float) for item in shown]
    assert all(np.abs(a - b).mean() > 0.5 for a, b in zip(pictures[1:], pictures[2:]))
    words = dict(photo=handle_file(photo), style="red-hill", change="half contrast")
    flat = [np.asarray(Image.open(item["image"]), float) for item in client.predict(**words, api_name="/compare")]
    assert flat[0].std() < 0.6 * pictures[0].std()
    assert len(flat) == 5


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


def test_requests_of_one_program_that_come_all_at_once_do_not_take_each_others_files(client, tmp_path):
    photos = [make_photo(tmp_path / f"{n}.jpg", (60 + n, 44), n) for n in range(5)] * 2
    jobs = [client.submit(photo=handle_file(photo), style="red-hill", api_name="/stylize") for photo in photos]
    sizes = [Image.open(saved(job.result(timeout=120)[0])).size for job in jobs]
    assert sizes == [(60 + n, 44) for n in range(5)] * 2
