"""What the app is made of, without a server: its files, its archives, its watch over a training."""

from __future__ import annotations

import ast
import html
import math
import os
import shutil
import struct
import sys
import tempfile
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("gradio")
from app_helpers import ROOT, app_weights  # noqa: E402
from conftest import make_photo  # noqa: E402
from PIL import Image  # noqa: E402

from app.archive import Results, items, safe_name  # noqa: E402
from app.easel import Easel  # noqa: E402
from app.files import MOST_AT_ONCE, Shelf  # noqa: E402
from app.newest import Newest  # noqa: E402
from app.stops import Stops  # noqa: E402
from app.studio import Limits, Studio, Wish, example_photos  # noqa: E402
from app.training import thinned, watch  # noqa: E402
from stylenorm import Stylizer  # noqa: E402
from stylenorm.errors import ImageError, StyleError, StylenormError, how_to_install  # noqa: E402


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


def test_what_is_held_stays_until_it_can_have_been_fetched(tmp_path, monkeypatch):
    """A program's next request may end before it has fetched what the last one gave, though nobody waited meanwhile."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("app.files.time.monotonic", lambda: clock.now)
    shelf, files = Shelf(tmp_path, seconds=10), []

    def hold():
        files.append(shelf.new("a.jpg"))
        files[-1].write_bytes(b"a")
        shelf.hold("ada", "file", [files[-1]])
        clock.now += 4

    for _ in range(4):
        hold()
    assert [file.exists() for file in files] == [False, True, True, True]
    clock.now += 60
    hold()
    assert [file.exists() for file in files] == [False] * 4 + [True]
    for _ in range(100):
        hold()
        clock.now -= 4
    assert sum(file.exists() for file in files) <= MOST_AT_ONCE


def test_what_is_released_goes_unless_another_slot_has_it(tmp_path):
    shelf = Shelf(tmp_path)
    a = shelf.new("a")
    a.touch()
    shelf.hold_all("ada", {"film": [a], "film at work": [a]})
    shelf.release("ada", "film at work")
    shelf.release("ada", "film at work")
    shelf.release("nobody", "film")
    assert a.exists()
    shelf.release("ada", "film")
    assert not a.exists()


def test_a_shelf_keeps_what_a_crowd_of_requests_may_want(tmp_path, monkeypatch):
    monkeypatch.setattr("app.files.MOST_AT_ONCE", 3)
    waiting = [True]
    shelf, files = Shelf(tmp_path, lambda visitor: visitor == "ada" and waiting[0]), []

    def hold(visitor: str = "ada") -> list[bool]:
        files.append(shelf.new("x"))
        files[-1].write_text("x")
        shelf.hold(visitor, "photo", [files[-1]])
        return [file.exists() for file in files]

    assert [hold(), hold(), hold(), hold()][-1] == [False, True, True, True], "three at most"
    waiting[0] = False
    assert hold()[2:] == [True] * 3, "the last of them"
    assert hold() == [False] * 5 + [True], "one after another"
    assert [hold("bob"), hold("bob")][-1][5:] == [True, False, True], "who sent one at a time"
    waiting[0] = True
    hold(), hold()
    shelf.sweep(-60)  # a minute from now
    assert [file.exists() for file in files][5:] == [False, False, True, False, True]


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


def test_a_sweep_takes_what_is_old_and_what_nobody_wants(tmp_path):
    shelf = Shelf(tmp_path / "shelf")
    link = tmp_path / ("shelf" if os.name == "nt" else "link")  # another way to write the same folder, where that takes no rights
    if os.name != "nt":
        link.symlink_to(shelf.folder)
    old, held, kept, never = (shelf.new(name) for name in ("old", "held", "kept", "never written"))
    for path in (old, held, kept):
        path.write_text("x")
    shelf.hold("ada", "folder photo", [link / held.relative_to(shelf.folder)])
    shelf.keep(kept)
    shelf.sweep(60)
    assert old.exists() and never.parent.exists()
    shelf.sweep(-60)  # a minute from now
    assert not never.parent.exists()
    assert not old.parent.exists() and held.exists() and kept.exists()


def test_a_sweep_forgets_the_silent_but_not_those_at_work(tmp_path, monkeypatch):
    shelf, files = Shelf(tmp_path), {}
    for visitor in ("ada", "bob"):
        files[visitor] = shelf.new("x")
        files[visitor].write_text("x")
        shelf.hold(visitor, "photo", [files[visitor]])
    monkeypatch.setattr("app.files.time.monotonic", lambda now=time.monotonic() + 25 * 3600: now)
    shelf.stay("bob")
    shelf.stay("eve")  # who left
    shelf.sweep(3600)
    assert not files["ada"].exists() and files["bob"].exists()


def test_the_page_is_swept_while_it_is_served(weights, tmp_path, monkeypatch):
    from app import main

    with monkeypatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        page = main.build(weights, tmp_path / "page")
    assert not page.delete_cache  # which goes by age alone
    shown = [*page.studio.example(), *(Path(path) for path, _ in page.studio.gallery())]
    upload = page.studio.shelf.new("upload.jpg")
    upload.write_text("x")
    monkeypatch.setattr(main, "OLD", -60)
    page.is_running = True
    monkeypatch.setattr(main.time, "sleep", lambda _: setattr(page, "is_running", False))
    main.keep_tidy(page)
    assert not upload.exists() and all(path.is_file() for path in shown)


def test_what_an_app_left_that_was_ended_at_once_goes_when_the_next_one_starts(tmp_path, monkeypatch):
    from app import main

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(main.atexit, "register", lambda *_, **__: None)
    left, used, other = (tmp_path / name for name in ("stylenorm-app-left", "stylenorm-app-used", "other"))
    for folder in (left, used, other):
        (folder / "made").mkdir(parents=True)
        os.utime(folder, (0, 0))
    page = SimpleNamespace(is_running=True, studio=SimpleNamespace(shelf=Shelf(used)))
    monkeypatch.setattr(main, "time", SimpleNamespace(time=time.time, sleep=lambda _: setattr(page, "is_running", False)))
    main.keep_tidy(page)
    mine = main.temporary_folder()
    assert sorted(tmp_path.iterdir()) == sorted([used, other, mine])


def test_a_folder_that_a_thread_still_writes_into_is_removed_at_the_end(tmp_path, monkeypatch):
    from app import main

    folder, tries = tmp_path / "shelf", []
    folder.mkdir()
    remove = shutil.rmtree

    def removed(path, **more):
        tries.append(path)
        remove(path, **more)
        if len(tries) < 3:  # what has been laid there meanwhile
            (path / "made").mkdir(parents=True)

    monkeypatch.setattr(main.shutil, "rmtree", removed)
    main.remove_used(folder)
    assert not folder.exists() and len(tries) == 3
    monkeypatch.setattr(main.shutil, "rmtree", lambda path, **more: None)
    folder.mkdir()
    main.remove_used(folder, seconds=0.1)
    assert folder.exists(), "it does not go on for ever"


def test_the_second_half_that_a_mac_makes_of_a_file_is_no_example(tmp_path, monkeypatch):
    for name in ("coffee.jpg", "._coffee.jpg"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr("app.studio.photos_folder", lambda: tmp_path)
    assert example_photos() == [tmp_path / "coffee.jpg"]


def test_what_the_page_shows_is_made_again_where_it_is_gone(weights, tmp_path):
    studio = Studio(Stylizer(weights, "cpu", "torch"), Shelf(tmp_path / "shelf"), weights)
    for path in (*studio.example(), *(Path(path) for path, _ in studio.gallery())):
        path.unlink()
    assert all(Path(path).is_file() for path in (*studio.example(), *(path for path, _ in studio.gallery())))


@pytest.mark.parametrize("allowed, most", [(120, 40), (20, 20)])
def test_how_large_a_generated_picture_may_be_is_told_as_it_is(weights, tmp_path, allowed, most):
    studio = Studio(Stylizer(weights, "cpu", "torch"), Shelf(tmp_path / "shelf"), weights, Limits(megapixels=allowed))
    with pytest.raises(ImageError, match=f"at most {most} megapixels"):
        Easel(studio).generate("ada", Wish([("red-hill", 1)]), (20000, 20000), 0, False)


def test_what_no_file_can_hold_is_told_without_the_servers_folder_and_before_it_is_made(weights, tmp_path, monkeypatch):
    studio = Studio(Stylizer(weights, "cpu", "torch"), Shelf(tmp_path / "shelf"), weights)
    easel = Easel(studio)
    monkeypatch.setattr(easel, "painter", lambda: pytest.fail("it was painted first"))
    with pytest.raises(ImageError, match="^a JPEG holds at most 65500 pixels a side; choose another kind of file$"):
        easel.generate("ada", Wish([("red-hill", 1)]), (65501, 64), 0, False, format="jpeg")
    monkeypatch.setattr(studio, "_paint", lambda *_: Image.new("RGB", (65501, 1)))
    with pytest.raises(ImageError, match="^photo-painted.jpg: jpeg holds at most"):
        studio.finish("ada", str(make_photo(studio.shelf.new("photo.jpg"))), Wish([("red-hill", 1)]), "jpeg", 90)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("a/b.jpg", "a/b.jpg"), ("../../etc/passwd", "etc/passwd"), ("/abs/x.png", "abs/x.png"), ("C:\\win\\x.png", "C_/win/x.png"),
        ("..", "picture"), ("a//./b.png", "a/b.png"), ("a\n\x00b.png", "a__b.png"), ("é ü/日本.png", "é ü/日本.png"), ("why?/etc./a|b.png", "why_/etc/a_b.png"),
        ("CON/aux.jpg", "_CON/_aux.jpg"), ("com10/auxiliary.jpg", "com10/auxiliary.jpg"),
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
        archive.writestr("folder/", b"")
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


def test_a_zip_that_lists_too_much_is_not_read(tmp_path):
    count = 60_000
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0x21, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, count * len(entry), 0, 0)  # it says that there is one
    (tmp_path / "z.zip").write_bytes(count * entry + end)
    tracemalloc.start()
    with pytest.raises(StylenormError, match="^z.zip lists too many files"):
        items([tmp_path / "z.zip"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_a_zip_is_read_once_for_all_of_its_members(tmp_path, monkeypatch):
    for name in ("a", "b"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for number in range(3):
                archive.writestr(f"{name}{number}.png", f"{name}{number}")
    found = items([tmp_path / "a.zip", tmp_path / "b.zip"])
    times, read = [], zipfile.ZipFile._RealGetContents
    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", lambda self: (times.append(1), read(self)))
    assert [item.read() for item in found] == [b"a0", b"a1", b"a2", b"b0", b"b1", b"b2"]
    assert len(times) == 2


def test_messages_about_zips_do_not_name_the_servers_folder(tmp_path):
    for name in ("a", "b"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("p.png", "p")
    found = items([tmp_path / "a.zip", tmp_path / "b.zip"])
    (tmp_path / "a.zip").unlink()
    with pytest.raises(ImageError) as error:
        found[0].read()
    assert str(error.value) == "p.png cannot be unpacked (No such file or directory); make the zip again"


def test_a_drawing_that_waits_is_bounded(tmp_path, monkeypatch):
    from fastapi import HTTPException
    from gradio.data_classes import DataWithFiles  # as it comes over the network

    from app.parts import Drawing

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    drawing = Drawing()
    drawing.most_bytes = 100
    assert drawing.server_fns == [drawing.accept_blobs]  # what the browser may call

    def send(id: str, index: str, size: int, type: str = "layer") -> None:
        drawing.accept_blobs(DataWithFiles(data={"type": type, "index": index, "id": id}, files=[("blob", bytes(size))]))

    for index in ("60000000", "16", "-1", "x"):
        with pytest.raises(HTTPException, match="at most 16 layers"):
            send("a", index, 1)
    assert not drawing.blob_storage
    send("a", "0", 60)
    send("a", "null", 40, "composite")
    with pytest.raises(HTTPException, match="at most 0.0001 MB"):
        send("a", "1", 1)
    assert [len(layer) for layer in drawing.blob_storage["a"].layers] == [60]
    send("b", "15", 1)
    assert list(drawing.blob_storage) == ["b"]  # all of them together are bounded, too, and the oldest goes


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


def test_messages_begin_with_a_capital_or_a_files_name():
    from app.page import sentence

    told = {"choose a style, with a share above 0": "Choose a style, with a share above 0.", "my photo.jpg is empty": "my photo.jpg is empty.",
            "a.tiff cannot be painted at 7 px; choose 16": "a.tiff cannot be painted at 7 px; choose 16.", "a picture here has 0.5 px": "A picture here has 0.5 px."}  # fmt: skip
    assert {text: sentence(StylenormError(text)) for text in told} == told


def test_what_to_install_does_not_tell_visitors_where_python_lies(monkeypatch):
    from app.page import sentence

    monkeypatch.setattr("shutil.which", lambda name: None)
    assert sys.executable in how_to_install("heic"), "whose pip may be another one"
    assert sentence(f"writing HEIC takes {how_to_install('heic')}") == 'Writing HEIC takes python -m pip install "stylenorm[heic]".'
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match="library: python -m pip install"):  # as in the table of a folder
        Studio.read(SimpleNamespace(limits=Limits()), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50), "a.heic")


def test_names_of_files_are_text_in_a_line_of_markdown():
    from markdown_it import MarkdownIt

    from app.page import as_text

    assert as_text("IMG_1234 (2)-painted.mp4") == "IMG_1234 (2)-painted.mp4", "as programs get it, too"
    for name in ("_x_ y.mp4", "[a](b).mp4", "*a*`b`.mp4", "~~a~~ <b> a\\*b\\*.mp4", "_a_b_.mp4"):
        found = MarkdownIt("js-default").renderInline(f"Painted: {as_text(name)}, 0.1 MB")
        assert found == f"Painted: {html.escape(name, quote=False)}, 0.1 MB", name


def test_curves_are_thinned():
    curve = [(i, 0, 0) for i in range(1001)]
    assert len(thinned(curve)) < 250 and thinned(curve)[-1][0] == 1000 and thinned(curve[:3]) == curve[:3]


def test_a_damaged_style_is_left_out_and_the_rest_is_shown(weights, tmp_path, caplog):
    weights = shutil.copytree(weights, tmp_path / "weights", symlinks=True)
    file = weights / "styles" / "blue-tree.safetensors"
    sound = file.read_bytes()
    file.write_bytes(sound[:-5] + bytes([sound[-5] ^ 1]) + sound[-4:])  # its header can be read
    studio = Studio(Stylizer(weights, "cpu", "torch"), Shelf(tmp_path / "shelf"), weights)
    assert studio.first() == "blue-tree" and studio.example() and "'blue-tree' is left out" in caplog.text
    studio.reload()
    assert [label for _, label in studio.gallery()] == ["Red Hill", "tall-grass"]
    assert "blue-tree" not in dict(studio.choices()).values()
    file.write_bytes(b"no style at all")
    studio.reload()
    assert len(studio.gallery()) == 2
    file.write_bytes(sound)
    studio.reload()
    assert len(studio.gallery()) == 3


def test_a_style_that_was_trained_anew_by_the_same_name_is_shown_anew(weights, tmp_path):
    weights = shutil.copytree(weights, tmp_path / "weights", symlinks=True)
    file = weights / "styles" / "blue-tree.safetensors"
    studio = Studio(Stylizer(weights, "cpu", "torch"), Shelf(tmp_path / "shelf"), weights)
    before, example = dict(map(reversed, studio.gallery())), studio.example()
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000))
    studio.reload()
    after = dict(map(reversed, studio.gallery()))
    assert {label for label in after if after[label] != before[label]} == {"Blue Tree"} and studio.example() != example


def test_a_style_that_was_removed_is_told_by_its_name_and_not_by_the_servers_folder(weights, tmp_path):
    weights = shutil.copytree(weights, tmp_path / "weights", symlinks=True)
    studio = Studio(Stylizer(weights, "cpu", "torch"), Shelf(tmp_path / "shelf"), weights)
    studio.style(Wish([("blue-tree", 1)]))
    (weights / "styles" / "blue-tree.safetensors").unlink()
    with pytest.raises(StylenormError, match="^no style is named 'blue-tree'"):
        studio.style(Wish([("blue-tree", 1)]))


def test_every_file_that_is_made_for_a_visitor_goes_with_the_visitor(tmp_path, monkeypatch):
    monkeypatch.setattr(Stylizer, "refine", lambda self, style, *_: style)
    monkeypatch.setattr("stylenorm.engine.STYLE_SIZE", 64)
    weights, shelf = app_weights(tmp_path / "weights"), Shelf(tmp_path / "shelf")
    studio = Studio(Stylizer(weights, "cpu", "torch"), shelf, weights)
    photo, painting = (str(make_photo(shelf.new(f"{name}.jpg"))) for name in ("photo", "painting"))
    studio.finish("ada", photo, Wish([(":painting", 1)], painting, closer=True), "jpeg", 90)
    shelf.leave("ada")
    assert shelf.size() == 0
    Image.new("RGBA", (800, 60), (90, 120, 150, 60)).save(photo := shelf.new("other.png"))
    shown = studio.compare("ada", str(photo), "red-hill", "half contrast")
    assert [Image.open(path).getpixel((400, 30))[3] for path, _ in shown] == [60] * 5
    shelf.leave("ada")
    assert shelf.size() == 0


def test_what_waits_in_the_queue_can_be_stopped():
    stops = Stops()
    assert not stops.ask("ada", "folder"), "nothing is there"
    stops.expect("ada", "folder")
    assert stops.ask("ada", "folder") and not stops.ask("ada", "training") and not stops.ask("bob", "folder")
    with stops.work("ada", "folder") as stop:
        assert stop.is_set()
        stops.expect("ada", "folder")  # the next one, while the first one comes to its end
        with stops.work("ada", "folder") as following:
            assert not following.is_set()
            stops.expect("ada", "folder")  # a click that starts nothing, as one is at work
            assert stops.ask("ada", "folder") and following.is_set()
    assert not stops.ask("ada", "folder"), "all is done"
    with stops.work("ada", "folder") as stop:  # of a program, which tells of nothing before
        assert not stop.is_set()
        stops.leave("ada")
        assert stop.is_set() and not stops.ask("ada", "folder")
    stops.expect("bob", "folder")
    stops.refused("bob", "folder")
    assert not stops.ask("bob", "folder"), "it never began"
    with stops.work("bob", "folder"):
        stops.refused("bob", "folder")  # another one
        assert stops.ask("bob", "folder")


def test_which_upload_came_last(monkeypatch):
    newest = Newest()
    assert not newest.tell("ada", "photo", None) and newest.tell("ada", "photo", "a") and not newest.tell("ada", "photo", "a")
    assert newest.tell("ada", "photo", "b") and newest.tell("ada", "painting", "a") and newest.tell("bob", "photo", "a")
    assert newest.replaced("ada", "photo", "a") and newest.replaced("ada", "photo", None)
    assert not any(newest.replaced(*one) for one in (("ada", "photo", "b"), ("ada", "painting", "a"), ("bob", "photo", "a")))
    assert not newest.replaced("ada", "photo", "yet to be told") and not newest.replaced("eve", "photo", "a")
    assert newest.ask("ada", 1) and not newest.ask("ada", 1) and newest.ask("bob", 1) and newest.ask("ada", 2)
    newest.unseen("ada", 1)
    assert not newest.ask("ada", 2)
    newest.unseen("ada", 2)
    assert newest.ask("ada", 2) and newest.ask("a program", 1) and newest.ask("a program", 1)
    newest.forget("ada")
    newest.forget("nobody")
    assert not newest.replaced("ada", "photo", "a") and newest.tell("ada", "photo", "b")
    monkeypatch.setattr("app.newest.MOST_VISITORS", 1)
    newest.tell("eve", "photo", "a")
    assert list(newest._wanted) == ["eve"]


def test_no_two_things_on_the_page_have_the_same_id(tmp_path, monkeypatch):
    from app.main import build

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    page = build(app_weights(tmp_path / "weights"), tmp_path / "page")
    ids = [block.elem_id for block in page.blocks.values() if block.elem_id]
    assert "compare-run" in ids and "generate-make" in ids
    assert sorted(ids) == sorted(set(ids)), "what a download is saved by may be another one, which opens a window for uploads"


def test_a_photograph_that_another_one_replaces_while_it_is_painted_is_not_shown(weights, tmp_path, monkeypatch):
    import gradio as gr

    from app.main import build

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    page = build(weights, tmp_path / "page")
    preview, studio = next(f.fn for f in page.fns.values() if f.api_name == "preview"), page.studio
    one, two = (str(make_photo(studio.shelf.new(f"{name}.jpg"))) for name in ("one", "two"))
    ada, dropped, painted, paint = SimpleNamespace(session_hash="ada"), [two], [], studio.preview

    def paint_while_another_is_dropped(who: str, photo: str, wish: Wish):
        painted.append(photo)
        if dropped:
            studio.newest.tell(who, "photo", dropped.pop())
        return paint(who, photo, wish)

    monkeypatch.setattr(studio, "preview", paint_while_another_is_dropped)
    studio.newest.tell("ada", "photo", one)
    assert preview(one, "red-hill", request=ada) == (gr.skip(),) * 3 == preview(one, "red-hill", request=ada)
    assert "preview" in preview(two, "red-hill", request=ada)[1] and painted == [one, two], "one is not begun again"
    assert preview(two, "red-hill", request=ada) == (gr.skip(),) * 3, "it is shown already"
    studio.newest.tell("ada", "photo", "gone.jpg")
    for _ in range(2):
        with pytest.raises(gr.Error, match="no longer on the server"):
            preview("gone.jpg", "red-hill", request=ada)
    regions, start = (next(f.fn for f in page.fns.values() if f.name == name) for name in ("regions", "start"))
    monkeypatch.setattr(studio, "regions", lambda who, photo, *_: (photo == one and start(two, ada), photo)[1])
    start(one, ada)
    assert regions(one, [], "", "", request=ada) == (gr.skip(),) * 2 and regions(two, [], "", "", request=ada)[0] == two
    studio.leave("ada")
    assert not studio.newest.replaced("ada", "photo", one)
    photo = next(number for number, block in page.blocks.items() if block.elem_id == "photo")
    told = [f.name for f in page.fns.values() if (photo, "change") in f.targets]
    assert told == ["tell", "preview"], "in this order, as the page waits for one before it asks for the next"


def test_a_folder_that_is_stopped_leaves_the_zip_of_what_is_done(weights, tmp_path):
    shelf, rows = Shelf(tmp_path / "shelf"), []
    studio = Studio(Stylizer(weights, "cpu", "torch"), shelf, weights)
    photos = [str(make_photo(shelf.new(f"{name}.jpg"))) for name in "abc"]
    stop = lambda: len(rows) == 2 or rows.append(0)  # noqa: E731
    *_, last = studio.folder("ada", photos, Wish([("red-hill", 1)]), "jpeg", 90, stop)
    assert last[:2] == (2, 3) and zipfile.ZipFile(last[4]).namelist() == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("most", [32 * 23, 10**6])
def test_regions_of_a_large_photograph_are_painted_smaller_and_saved_whole(weights, tmp_path, monkeypatch, most):
    monkeypatch.setattr("stylenorm.tensors.USUAL_PIXELS", most)
    asked, shelf = [], Shelf(tmp_path / "shelf")
    studio = Studio(Stylizer(weights, "cpu", "torch"), shelf, weights)
    paint = studio.stylizer._painted
    monkeypatch.setattr(studio.stylizer, "_painted", lambda pixels, *more: asked.append(pixels.size) or paint(pixels, *more))
    (mask := Image.new("L", (60, 44))).paste(255, (0, 0, 30, 44))
    mask.save(tmp_path / "mask.png")
    photo = str(make_photo(shelf.new("photo.jpg")))
    file = studio.finish_regions("ada", photo, [tmp_path / "mask.png"], Wish([("red-hill", 1)]), "blue-tree", 0, "png", 90)
    assert Image.open(file).size == (60, 44) and asked == 2 * [(60, 44) if most == 10**6 else (32, 23)]


def test_a_part_may_stay_as_it_is_and_the_file_is_what_the_preview_shows(weights, tmp_path):
    shelf = Shelf(tmp_path / "shelf")
    studio = Studio(Stylizer(weights, "cpu", "torch"), shelf, weights)
    photo = str(make_photo(shelf.new("photo.png"), (90, 60)))
    (mask := Image.new("L", (90, 60))).paste(255, (0, 0, 50, 60))
    mask.save(tmp_path / "mask.png")
    before, whole = (np.asarray(studio.stylizer.stylize(photo, "red-hill", strength=k)).astype(int) for k in (0, 1))
    for inside, outside in (("red-hill", ""), ("", "red-hill")):
        wish = [tmp_path / "mask.png"], Wish([(inside, 1)]), outside
        for edge, follow in ((0, False), (20, True)):
            painted = np.asarray(Image.open(studio.finish_regions("ada", photo, *wish, edge, "png", 90, follow))).astype(int)
            shown = np.asarray(Image.open(studio.regions("ada", photo, *wish, edge, follow)[1])).astype(int)
            assert np.abs(shown - painted).mean() < 12 < np.abs(whole - before).mean() / 3, "the preview is a JPEG"
            parts = (whole, before) if inside else (before, whole)
            if not follow:
                assert np.array_equal(painted, np.concatenate([parts[0][:, :50], parts[1][:, 50:]], 1))
            assert np.array_equal(painted[:, 80:], parts[1][:, 80:])
    with pytest.raises(StyleError, match="at least one of the two parts"):
        studio.regions("ada", photo, [tmp_path / "mask.png"], Wish([("", 1)]), "", 0)


def test_a_preview_has_the_size_that_is_painted_and_what_is_drawn_on_is_smaller(weights, tmp_path, monkeypatch):
    monkeypatch.setattr("stylenorm.tensors.USUAL_PIXELS", 40 * 30)
    shelf = Shelf(tmp_path / "shelf")
    studio = Studio(Stylizer(weights, "cpu", "torch"), shelf, weights)
    large, small = (str(make_photo(shelf.new(f"{size[0]}.jpg"), size)) for size in ((60, 45), (30, 20)))
    for photo, most, size in ((large, 20, (20, 15)), (large, math.inf, (40, 30)), (small, math.inf, (30, 20)), (small, 80, (30, 20))):
        assert Image.open(studio.small(photo, most)).size == size and studio.small(photo, most) == studio.small(photo, most)


@pytest.mark.parametrize("memory, lines", [(0, 1), (4, 0)])
def test_a_visitor_is_told_of_strips_and_not_of_the_server(weights, tmp_path, memory, lines):
    told, shelf = [], Shelf(tmp_path / "shelf")
    studio = Studio(Stylizer(weights, "cpu", "torch", memory=memory), shelf, weights, notice=told.append)
    file = studio.finish("ada", str(make_photo(shelf.new("photo.jpg"))), Wish([("red-hill", 1)]), "png", 90)
    assert file.is_file() and len(told) == lines
    assert all("strip" in line and "/" not in line and "GB" not in line for line in told)


def test_a_visitor_is_told_where_nobody_is_seen(weights, tmp_path):
    told, shelf = [], Shelf(tmp_path / "shelf")
    studio = Studio(Stylizer(weights, "cpu", "torch"), shelf, weights, notice=told.append)
    photo = shelf.new("photo.png")
    Image.effect_noise((64, 48), 40).convert("RGB").save(photo)
    studio.finish("ada", str(photo), Wish([("red-hill", 1)], where="people"), "png", 90)
    assert told == ["No people are to be seen in this picture."]


def test_the_app_asks_itself_through_no_proxy(monkeypatch):
    from app import main

    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for variable in (name, name.upper()):
            monkeypatch.delenv(variable, raising=False)
    before = dict(os.environ)
    with main.past_proxies("127.0.0.1"):
        assert dict(os.environ) == before
    monkeypatch.setattr(main, "getproxies", lambda: {"http": "http://proxy:8080", "ftp": "http://proxy:21"})  # as in Windows' settings
    with main.past_proxies("[fd00::5]"):
        assert os.environ["http_proxy"] == "http://proxy:8080" and os.environ["no_proxy"] == "localhost,127.0.0.1,::1,fd00::5"
    assert dict(os.environ) == before
    monkeypatch.setenv("NO_PROXY", "intranet")
    monkeypatch.setattr(main, "getproxies", lambda: {"http": "http://proxy:8080", "no": "intranet"})
    with main.past_proxies("127.0.0.1"):
        assert os.environ["no_proxy"] == "intranet,localhost,127.0.0.1,::1,127.0.0.1"
    assert os.environ["NO_PROXY"] == "intranet"


def test_ctrl_c_reaches_an_app_on_windows_as_well(monkeypatch):
    """There it ends a sleep, and no wait for a lock or an event (https://github.com/python/cpython/issues/80116)."""
    from app import main

    def ctrl_c(seconds: float) -> None:
        assert seconds <= 2, "a signal that comes just before a sleep is told after it: the app did not end, once in fifty times"
        raise KeyboardInterrupt

    def wait(event: threading.Event, timeout: float | None = None) -> bool:
        assert timeout is not None, "Windows would not end this"
        return True

    closed = []
    page = SimpleNamespace(
        launch=lambda **options: None, close=lambda **options: closed.append(True), studio=SimpleNamespace(limits=Limits())
    )
    monkeypatch.setattr(main.time, "sleep", ctrl_c)
    monkeypatch.setattr(threading.Event, "wait", wait)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)
    monkeypatch.setattr(main.signal, "signal", lambda *about: None)
    main.launch(page=page, quiet=True)
    assert closed


FIELDS = ["folder-files", "compare-photo", "train-painting", *(f"{page}-{field}" for page in ("folder", "generate", "camera") for field in ("painting", "style-file"))]


def test_what_a_field_shows_stays_though_another_page_lets_go_of_the_same_file(weights, tmp_path):
    """Gradio stores it once. On these pages it was held only when something was made of it."""
    from app.main import build

    page = build(app_weights(tmp_path / "weights"), tmp_path / "page")
    shelf, ada = page.studio.shelf, SimpleNamespace(session_hash="ada")
    ids = {block.elem_id: number for number, block in page.blocks.items() if getattr(block, "elem_id", None)}
    for name in FIELDS:
        shown = shelf.new("a.jpg")
        shown.touch()
        keep = next(f.fn for f in page.fns.values() if (ids[name], "change") in f.targets and f.name == "keep")
        keep([str(shown)] if name == "folder-files" else str(shown), ada)
        shelf.hold("ada", "stylize photo", [shown])
        shelf.hold("ada", "stylize photo", [])
        assert shown.exists(), name
        keep([] if name == "folder-files" else None, ada)
