"""The tab for films: as a program uses it, and the parts behind it."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest

av = pytest.importorskip("av")
pytest.importorskip("gradio")

from app_helpers import app_client, app_server, refused, saved, wait_until  # noqa: E402, F401
from conftest import make_photo  # noqa: E402
from gradio_client import handle_file  # noqa: E402
from PIL import Image  # noqa: E402
from test_video import changed, film, moving_mask, packets, shown  # noqa: E402

from app.cinema import Cinema, telling  # noqa: E402
from app.files import Shelf  # noqa: E402
from app.page import stopped  # noqa: E402
from app.studio import Limits, Studio, Wish  # noqa: E402
from stylenorm import StylenormError, Stylizer  # noqa: E402
from stylenorm.video_files import probe  # noqa: E402


def animation(path, count: int = 4):
    first, *more = (Image.open(make_photo(path.with_name(f"{n}.png"), (40, 30), n)) for n in range(count))
    first.save(path, save_all=True, append_images=more, duration=50, loop=0)
    return path


def plain(path, pictures):
    """A film of arrays (H, W, 3), without sound."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        for picture in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        out.mux(stream.encode(None))
    return path


@pytest.fixture
def cinema(weights, tmp_path):
    return Cinema(Studio(Stylizer(weights, "cpu", "torch"), Shelf(tmp_path / "shelf"), weights))


def test_a_film(client, tmp_path):
    source = film(tmp_path / "lake.mp4")
    job = client.submit(film=handle_file(source), style="red-hill", api_name="/film")
    line, _, player, _, button = job.result(timeout=200)
    assert line.startswith("12 frames painted in ") and "lake-painted.mp4" in line
    assert player["visible"] and saved(button).name == "lake-painted.mp4"
    times, pixels = shown(saved(button))
    assert times == shown(source)[0] and packets(saved(button), "audio") == packets(source, "audio")
    assert np.abs(pixels - shown(source)[1]).mean() > 10
    assert job.outputs()[0][0] == "0 of about 12 frames"


def test_an_animation(client, tmp_path):
    line, _, player, picture, button = client.predict(
        film=handle_file(animation(tmp_path / "moving.gif")), style="red-hill", size=20, api_name="/film"
    )
    assert line.startswith("4 frames") and not player["visible"] and picture["visible"]
    with Image.open(saved(button)) as painted:
        assert (painted.format, painted.n_frames, painted.size, painted.info["duration"]) == ("GIF", 4, (20, 15), 50)


def test_a_mask_of_ones_own_says_where_and_may_move(client, server, tmp_path):
    source, size = film(tmp_path / "lake.mp4", 9), (64, 48)
    wish = {"film": handle_file(source), "style": "red-hill", "api_name": "/film"}
    half = Image.new("L", size)
    half.paste(255, (0, 0, 32, 48))
    half.save(tmp_path / "half.png")
    for mask in (moving_mask(tmp_path / "matte.mp4", 9, size), moving_mask(tmp_path / "matte.gif", 9, size), tmp_path / "half.png"):
        for inverted in (False, True):
            *_, button = client.predict(mask=handle_file(mask), inverted=inverted, **wish)
            where = changed(source, saved(button))
            for at in (1, 4, 8):
                inside = slice(3, 29) if mask.suffix == ".png" else slice(4 * at + 3, 4 * at + 13)
                outside = slice(36, 64) if mask.suffix == ".png" else slice(4 * at + 20, None)
                assert (where[at, inside].mean() > 0.8, where[at, outside].mean() > 0.8) == (not inverted, inverted)
                assert not where[at, outside if not inverted else inside].any()
    *_, button = client.predict(film=handle_file(animation(tmp_path / "a.png")), style="red-hill", mask=handle_file(moving_mask(tmp_path / "m.gif", 4, (40, 30))), api_name="/film")
    with Image.open(tmp_path / "a.png") as before, Image.open(saved(button)) as after:
        for at in range(4):
            before.seek(at), after.seek(at)
            where = np.abs(np.asarray(before.convert("RGB"), int) - np.asarray(after.convert("RGB"), int)).mean((0, 2)) > 3
            assert where[4 * at : 4 * at + 16].mean() > 0.8 and not where[4 * at + 16 :].any()
    (tmp_path / "words.png").write_text("words")
    (tmp_path / "words.mp4").write_text("words")
    half.rotate(90, expand=True).save(tmp_path / "upright.png")
    expected = {
        moving_mask(tmp_path / "short.gif", 3, size): "The mask short.gif has 3 frames, and lake.mp4 about 9; it has to have one for each.",
        tmp_path / "words.png": "The mask is not a picture", tmp_path / "words.mp4": "words.mp4 is no video", tmp_path / "upright.png": "one of them lies on its side",
    }  # fmt: skip
    for mask, sentence in expected.items():
        told = refused(client, mask=handle_file(mask), **wish)
        assert sentence in told and str(server.folder) not in told
    assert "Choose “Everything”" in refused(client, mask=handle_file(tmp_path / "half.png"), where="people", **wish)


def test_the_frame_that_is_shown_has_the_mask_of_that_frame(cinema, tmp_path):
    bright = np.asarray(Image.open(make_photo(tmp_path / "p.png", (64, 48))).convert("RGB"))
    dark = plain(tmp_path / "fades.mp4", [0 * bright] * 6 + [bright] * 9)
    barred = film(tmp_path / "barred.mp4", 9, (64, 72), bar=12)
    for source, at, size in ((dark, 6, (64, 48)), (barred, 0, (64, 72))):
        for inverted in (False, True):
            wish = Wish([("red-hill", 1)], mask_file=str(moving_mask(tmp_path / f"{source.stem}.gif", 15, size)), inverted=inverted)
            frame, painted = (np.asarray(Image.open(p).convert("RGB"), int) for p in cinema.preview("ada", str(source), wish)[1])
            where = np.abs(frame - painted).mean((0, 2)) > 8
            assert frame.shape == (48, 64, 3) and where[4 * at + 2 : 4 * at + 13].mean() > 0.8 - inverted
            assert where[4 * at + 20 :].mean() == 0 if not inverted else where[4 * at + 20 :].mean() > 0.8
    upper = Image.new("L", (64, 72))
    upper.paste(255, (0, 0, 64, 36))  # of which 12 px are a black bar
    upper.save(tmp_path / "upper.png")
    frame, painted = (np.asarray(Image.open(p).convert("RGB"), int) for p in cinema.preview("ada", str(barred), Wish([("red-hill", 1)], mask_file=str(tmp_path / "upper.png")))[1])
    rows = np.abs(frame - painted).mean((1, 2)) > 8
    assert rows[:22].mean() > 0.8 and not rows[27:].any()
    still = str(animation(tmp_path / "a.webp"))
    half = Image.new("L", (40, 30))
    half.paste(255, (0, 0, 20, 30))
    half.save(tmp_path / "half.png")
    frame, painted = (np.asarray(Image.open(p).convert("RGB"), int) for p in cinema.preview("ada", still, Wish([("red-hill", 1)], mask_file=str(tmp_path / "half.png")))[1])
    where = np.abs(frame - painted).mean((0, 2)) > 5
    assert where[:16].mean() > 0.8 and where[26:].mean() == 0


def test_stopping_a_film_keeps_what_is_painted(client, tmp_path):
    assert client.predict(api_name="/stop_film") == "Nothing is being painted."
    source = film(tmp_path / "long.mp4", 400, (320, 240), sound=None)
    job = client.submit(film=handle_file(source), style="red-hill", api_name="/film")
    assert wait_until(lambda: len(job.outputs()) > 1, 200)
    line, pair = job.outputs()[1][:2]
    assert "of about 400 frames, about" in line and all(Image.open(p).size == (320, 240) for p in pair["value"])
    assert client.predict(photo=handle_file(make_photo(tmp_path / "q.jpg")), style="red-hill", api_name="/preview")
    told = refused(client, film=handle_file(source), style="red-hill", api_name="/film")
    assert told == "Somebody's film, folder or training is at work; try again in a few minutes."
    assert client.predict(api_name="/stop_film") == "Stopping."
    line, *_, button = job.result(timeout=100)
    assert line.startswith("Stopped: the first ")
    assert 0 < len(shown(saved(button))[0]) == int(line.split()[3]) < 400


def test_what_cannot_be_painted_gets_a_sentence(client, server, tmp_path):
    text, playlist = tmp_path / "text.mp4", tmp_path / "list.m3u8"
    text.write_text("hello")
    Image.new("RGB", (64, 48), "teal").save(cut := tmp_path / "cut.webp")
    cut.write_bytes(cut.read_bytes()[:-20])
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{film(tmp_path / 'a.mp4')}\n#EXT-X-ENDLIST\n")
    expected = {
        text: "text.mp4 is no video", playlist: "list.m3u8 is no video", cut: "cut.webp is damaged, cut short",
        make_photo(tmp_path / "still.jpg"): "still.jpg does not move",
        plain(tmp_path / "vast.mp4", np.zeros((1, 3600, 5600, 3), np.uint8)): "vast.mp4 is 5600 x 3600 px, more than 20 megapixels",
    }  # fmt: skip
    for path, sentence in expected.items():
        told = refused(client, film=handle_file(path), style="red-hill", api_name="/film")
        assert sentence in told and str(server.folder) not in told
    assert "Add a film first" in refused(client, film=None, style="red-hill", api_name="/film")
    small = handle_file(tmp_path / "a.mp4")
    assert "choose a size" in refused(client, film=small, style="red-hill", size=9, api_name="/film")
    assert "No style is named" in refused(client, film=small, style="nowhere", api_name="/film")


def test_a_film_that_is_cut_short_is_told_of_by_its_name_alone(client, tmp_path):
    cut = film(tmp_path / "cut.mp4", 30)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 6 // 10])
    line, *_, button = client.predict(film=handle_file(cut), style="red-hill", api_name="/film")
    assert re.fullmatch(r"(\d+) frames painted in .* MB\. cut\.mp4 is cut short: it ends at .* s of 3\.0 s; what was readable is painted\.", line), line
    assert 0 < len(shown(saved(button))[0]) == int(line.split()[0]) < 30


def test_a_visitor_who_leaves_stops_the_film_and_nothing_is_left(cinema, tmp_path):
    source, stop = film(tmp_path / "in.mp4", 60, (320, 240)), threading.Event()
    uploaded = cinema.studio.shelf.new("in.mp4")
    uploaded.write_bytes(source.read_bytes())
    looks = cinema.paint("ada", str(uploaded), Wish([("red-hill", 1)]), stop)
    next(looks)
    looks.close()
    cinema.studio.leave("ada")
    assert [p for p in (tmp_path / "shelf").rglob("*") if p.is_file()] == []


def test_an_animation_that_is_stopped_leaves_nothing(cinema, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(StylenormError, match="stopped"):
        list(cinema.paint("ada", str(animation(tmp_path / "a.webp")), Wish([("red-hill", 1)]), stop))
    assert not list((tmp_path / "shelf").rglob("*.webp"))


def test_one_frame_is_shown_that_shows_something(cinema, tmp_path):
    bright = np.asarray(Image.open(make_photo(tmp_path / "p.png", (64, 48))).convert("RGB"))
    plain(tmp_path / "fades.mp4", [0 * bright] * 25 + [bright] * 15)
    assert np.asarray(telling(probe(tmp_path / "fades.mp4"))[1]).std() > 20
    found, (frame, painted) = cinema.preview("ada", str(tmp_path / "fades.mp4"), Wish([("red-hill", 1)]))
    assert (found.size, found.frames) == ((64, 48), 40) and found.told() == "64 x 48 px, about 40 frames, 10 a second"
    assert np.asarray(Image.open(frame)).std() > 20 and Image.open(painted).size == (64, 48)
    again, _ = cinema.preview("ada", str(tmp_path / "fades.mp4"), Wish([("blue-tree", 1)]))[1]
    assert again == frame, "it is looked for once"
    barred = str(film(tmp_path / "barred.mp4", 6, (64, 72), bar=12))
    assert [Image.open(p).size for p in cinema.preview("ada", barred, Wish([("red-hill", 1)]))[1]] == [(64, 48)] * 2, "without black bars"


@pytest.mark.parametrize("wish, side", [({}, None), ({"strokes": 1.6}, 40), ({"strokes": 0.625, "size": 40}, 64)])
def test_strokes_are_as_large_as_is_wished(cinema, tmp_path, monkeypatch, wish, side):
    asked, begin = [], cinema.studio.stylizer.stream
    monkeypatch.setattr(cinema.studio.stylizer, "stream", lambda style, **options: asked.append(options["paint_at"]) or begin(style, **options))
    for source in (film(tmp_path / "in.mp4", 2), animation(tmp_path / "a.webp")):
        *_, last = cinema.paint("ada", str(source), Wish([("red-hill", 1)], **wish), threading.Event())
        assert last.path.exists()
    assert asked[0] == side, asked


def test_while_a_film_is_painted_something_else_may_be_looked_at(cinema, tmp_path, monkeypatch):
    monkeypatch.setattr("app.cinema.EVERY", 0.05)
    source, stop, red, blue = str(film(tmp_path / "in.mp4", 400)), threading.Event(), Wish([("red-hill", 1)]), Wish([("blue-tree", 1)])
    looks = cinema.paint("ada", source, red, stop)
    assert [next(looks).pair is None for _ in range(3)] == [True, False, False], "nothing yet, then its frames"
    cinema.preview("bob", source, blue)
    assert next(looks).pair
    cinema.preview("ada", source, blue)
    assert not next(looks).pair and not next(looks).pair
    cinema.preview("ada", source, Wish([("red-hill", 1)]))
    assert next(looks).pair
    looks.close()
    assert not cinema._wanted


def test_a_film_that_is_painted_stays_whatever_is_looked_at(cinema, tmp_path, monkeypatch):
    monkeypatch.setattr("app.cinema.EVERY", 0.05)
    shelf, source = cinema.studio.shelf, film(tmp_path / "in.mp4", 400)
    source = source.rename(shelf.new("in.mp4"))
    looks = cinema.paint("ada", str(source), Wish([("red-hill", 1)]), stop := threading.Event())
    assert next(looks).done == 0 < next(looks).done
    shelf.hold("ada", "film", [])  # another one was chosen
    assert source.exists()
    stop.set()
    list(looks)
    assert not source.exists()


def test_the_operator_may_limit_how_long_a_film_takes(weights, tmp_path):
    limits = Limits(long_minutes=3 / 60)
    studio = Studio(Stylizer(weights, "cpu", "torch"), Shelf(tmp_path / "shelf"), weights, limits)
    source, stop = film(tmp_path / "in.mp4", 800), threading.Event()
    with studio.turn(stop) as over:
        assert stopped(studio, over) == "Stopped"
        *_, last = Cinema(studio).paint("ada", str(source), Wish([("red-hill", 1)]), stop)
        assert stopped(studio, over) == "Stopped after 3 s, the most that this page allows"
    assert not last.whole and 0 < len(shown(last.path)[0]) == last.done < 800
    with studio.turn(stop := threading.Event()):
        pass
    assert not stop.wait(3.1), "only while it is at work"
