"""Folders of photographs: what is found, what its paintings are called, what is noted, what goes on at once."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import time
import weakref
import zipfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image, features

from stylenorm import batch as batch_module
from stylenorm import batch_steps as steps
from stylenorm import manifest as manifest_module
from stylenorm import tree as tree_module
from stylenorm.batch import Alike, Look, differences, make_plan, paint_all
from stylenorm.checkpoint import write_tensors
from stylenorm.data import find_images
from stylenorm.drafts import DAY, PREFIX, SUFFIX, draft_of, remove_drafts, write_draft, write_whole
from stylenorm.errors import ImageError, StylenormError
from stylenorm.jobs import Job, make_folder
from stylenorm.manifest import NAME, Manifest
from stylenorm.places import place
from stylenorm.training_logs import _whole
from stylenorm.tree import Photo, check_noted, check_targets, find_tree, lies_in, output_names
from stylenorm.walking import write_walk

LOOK = Look("kiss", "")
links = pytest.mark.skipif(os.name == "nt", reason="links need rights there")


def names(*found: str) -> list[Photo]:
    return [Photo(Path(name), name, 1, 1) for name in found]


def found(top: Path, out: Path, recursive: bool = True) -> list[str]:
    return [photo.name for photo in find_tree(top, out, recursive).photos]


# ---- the tree ----------------------------------------------------------------------------------


@pytest.fixture
def top(tmp_path):
    pictures = ("b.jpg", "a.PNG", "trip/day 1/c.jpeg", "trip/ä — 猫.webp", "x.jpg/y.gif")
    for name in (*pictures, ".hidden.jpg", ".cache/d.jpg", "trip/notes.txt"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    return tmp_path / "in"


def test_the_tree_holds_pictures_that_are_not_hidden(top, tmp_path):
    wanted = ["a.PNG", "b.jpg", "trip/day 1/c.jpeg", "trip/ä — 猫.webp", "x.jpg/y.gif"]
    assert found(top, tmp_path / "out") == wanted
    assert found(top, tmp_path / "out", recursive=False) == wanted[:2]


def test_thumbnails_of_a_nas_and_what_was_thrown_away_are_no_photographs(top, tmp_path):
    for folder in ("@eaDir/b.jpg", "trip/@eaDir/c.jpeg", "$RECYCLE.BIN", "#recycle", "__MACOSX"):
        make_photo(top / folder / "SYNOFILE_THUMB_XL.jpg")
    assert len(found(top, tmp_path / "out")) == 5 == len(find_images(top))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in top.rglob("*"):
            archive.write(path, path.relative_to(top))
    assert len(found(place(f"zip://::{tmp_path}/a.zip"), tmp_path / "out")) == 5


def test_a_macs_libraries_of_photographs_are_left_out_and_what_is_in_one_is_painted_when_it_is_given(top, tmp_path):
    library = top / "Photos Library.photoslibrary"
    for name in ("originals/0/0A1B.jpeg", "resources/derivatives/0/0A1B_1_105_c.jpeg"):
        make_photo(library / name)
    tree = find_tree(top, tmp_path / "out")
    assert len(tree.photos) == 5 == len(find_images(top))
    assert tree.left_out == [f"{library} was left out, for it is a library, with several copies of each photograph; export them from its program, and paint those"]
    assert not find_tree(top, tmp_path / "out", recursive=False).left_out
    assert found(library / "originals", tmp_path / "out") == ["0/0A1B.jpeg"]


@pytest.mark.parametrize("mark", [{"st_file_attributes": 2 | 4}, {"st_flags": 0x8000}], ids=["Windows", "Mac"])
def test_what_is_marked_as_hidden_is_passed_over(top, tmp_path, monkeypatch, mark):
    make_photo(top / "AppData" / "x.jpg")

    def about(entry, **how):
        return SimpleNamespace(**(mark if entry.name == "AppData" else dict.fromkeys(mark, 1)))

    before = found(top, tmp_path / "out")
    assert "AppData/x.jpg" in before
    monkeypatch.setattr("stylenorm.tree.MARKED", True)
    assert found(top, tmp_path / "out") == before, "the marks of this system"
    hidden = tree_module._is_marked_hidden
    monkeypatch.setattr("stylenorm.tree._is_marked_hidden", lambda entry: hidden(SimpleNamespace(stat=partial(about, entry))))
    assert found(top, tmp_path / "out") == [name for name in before if "AppData" not in name]


def test_a_link_that_nobody_may_look_into_closes_no_other_way_to_its_folder(tmp_path, monkeypatch):
    """As Windows has them among Documents, and they count as folders there."""
    closed, real, id_of, scan = tmp_path / "in/zz/My Pictures", tmp_path / "in/Pictures", tree_module.file_id, os.scandir
    closed.mkdir(parents=True), make_photo(real / "a.jpg")

    def scandir(path):
        if os.fspath(path) == str(closed):
            raise PermissionError(errno.EACCES, "Access is denied", str(path))
        return scan(path)

    monkeypatch.setattr("stylenorm.tree.file_id", lambda path: id_of(real if os.fspath(path) == str(closed) else path))
    monkeypatch.setattr(os, "scandir", scandir)
    tree = find_tree(tmp_path / "in", tmp_path / "out")
    assert [photo.name for photo in tree.photos] == ["Pictures/a.jpg"] and len(tree.unread) == 1


def test_results_are_no_photographs(top, tmp_path):
    make_photo(top / "painted" / "b.jpg"), make_photo(tmp_path / "b.jpg")
    (top / "painted" / NAME).write_bytes(b"{}")
    assert "painted/b.jpg" not in found(top, top / "painted") and "b.jpg" in found(top, top / "painted")
    assert "b.jpg" in found(top, top / "new") and "b.jpg" in found(top, top / "trip" / "new")
    (top / "painted" / NAME).unlink()
    assert "painted/b.jpg" in found(top, tmp_path / "out")
    assert found(top, tmp_path) == found(top, tmp_path / "out"), "photographs inside the folder of paintings are photographs"


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_folder_is_the_same_however_its_name_is_typed(tmp_path, monkeypatch):
    """As Photos and photos are on a Mac, whose realpath leaves a name as it is."""
    (tmp_path / "Photos" / "painted").mkdir(parents=True)
    (tmp_path / "photos").symlink_to("Photos")
    monkeypatch.setattr("os.path.realpath", os.path.abspath)
    top, other = tmp_path / "Photos", tmp_path / "photos"
    assert lies_in(other / "painted" / "new" / "a.jpg", top) and lies_in(top, other) and not lies_in(top, other / "painted")
    assert lies_in(tmp_path / "new" / "a", tmp_path / "new") and not lies_in(tmp_path / "newer", tmp_path / "new")
    make_photo(other / "painted" / "a.jpg")
    with pytest.raises(StylenormError, match="no batch has painted"):
        check_noted(top, other / "painted", ["a.jpg"], set())


@pytest.mark.parametrize("name", ["painted", "painted/kiss", "in a link"])
def test_photographs_where_the_paintings_are_to_go_are_not_left_out_without_a_word(top, tmp_path, name):
    if name == "in a link" and os.name == "nt":
        pytest.skip("links need rights there")
    out = tmp_path / "elsewhere" / "painted" if name == "in a link" else top / "painted"
    own = make_photo((out if name == "in a link" else top / name) / "own.JPG")
    (top / "painted link").symlink_to(tmp_path / "elsewhere") if name == "in a link" else None
    with pytest.raises(StylenormError, match=r"own.JPG\b.*no batch has painted.*give another folder for the paintings"):
        find_tree(top, out)
    (own.parent / NAME).write_bytes(b"")  # of a batch that was killed before it began
    with pytest.raises(StylenormError, match="no batch has painted"):
        find_tree(top, out)
    (own.parent / NAME).write_bytes(b"{}")
    assert not [found for found in find_tree(top, out).photos if "own" in found.name]
    (own.parent / NAME).unlink(), own.unlink(), (own.parent / "notes.txt").write_bytes(b"1")
    assert len(find_tree(top, out).photos) == 5


def test_a_folder_cannot_be_painted_into_itself(top):
    with pytest.raises(StylenormError, match="where the photographs are"):
        find_tree(top, top / ".." / "in")


def test_files_may_have_no_numbers(top, tmp_path, monkeypatch):
    """As on some drives of the net on Windows, where each folder would be the one before, and in itself."""
    wanted, stat = found(top, tmp_path / "out"), os.stat

    def unnumbered(path, **more):
        mode, number, *others = stat(path, **more)
        return os.stat_result((mode, 0, *others))

    (top / "painted").mkdir()
    monkeypatch.setattr(os, "stat", unnumbered)
    assert found(top, top / "painted") == wanted
    with pytest.raises(StylenormError, match="where the photographs are"):
        find_tree(top, top / ".." / "in")


@pytest.mark.parametrize("name, word", [("missing", "does not exist"), ("in/b.jpg", "is a file")])
def test_what_is_no_folder_is_refused(top, tmp_path, name, word):
    with pytest.raises(StylenormError, match=word):
        find_tree(tmp_path / name, tmp_path / "out")


@links
def test_links_are_followed_once_and_circles_end(top, tmp_path):
    make_photo(tmp_path / "elsewhere" / "e.jpg")
    (top / "a-link").symlink_to(tmp_path / "elsewhere")
    (top / "also").symlink_to(tmp_path / "elsewhere")
    (top / "again").symlink_to(top / "trip")  # sorts before what it leads to
    (top / "trip" / "up").symlink_to(top)
    (tmp_path / "elsewhere" / "back").symlink_to(top)
    (top / "self").symlink_to(top / "self")
    result = found(top, tmp_path / "out")
    assert [n for n in result if n.endswith("e.jpg")] == ["a-link/e.jpg"]
    assert "trip/day 1/c.jpeg" in result and len(result) == 6


def test_paintings_of_another_batch_are_left_out_and_named(tmp_path):
    for name in ("a.jpg", "kiss/a.jpg", "kiss/stylenorm-manifest.jsonl", "kiss/trip/b.jpg", "scream/stylenorm-manifest.jsonl", "kisses/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    tree = find_tree(tmp_path, tmp_path / "scream")
    assert [photo.name for photo in tree.photos] == ["a.jpg", "kisses/c.jpg"]
    assert tree.left_out == [f"the folder {tmp_path / 'kiss'} was left out, for another batch has painted into it"]
    assert found(tmp_path / "kiss", tmp_path / "out") == ["a.jpg", "trip/b.jpg"], "unless it is what was asked for"


def test_raw_files_and_films_are_left_out_and_counted(tmp_path):
    for name in ("a.jpg", "b.NEF", "trip/c.nef", "trip/d.dng", "e.mp4", "notes.txt", ".hidden.nef"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    tree = find_tree(tmp_path, tmp_path / "out")
    assert [photo.name for photo in tree.photos] == ["a.jpg"]
    raw, film = tree.left_out
    assert raw.startswith("3 raw files (.dng, .nef) left out") and film.startswith("1 film (.mp4) left out")


@links
def test_links_into_the_results_are_left_out_and_named(top, tmp_path):
    make_photo(tmp_path / "out" / "sub" / "old.jpg")
    (top / "link").symlink_to(tmp_path / "out" / "sub")
    (top / "old.jpg").symlink_to(tmp_path / "out" / "sub" / "old.jpg")
    (tmp_path / "way").symlink_to(tmp_path / "out")
    for out in (tmp_path / "out", tmp_path / "way"):
        tree = find_tree(top, out)
        assert not [p.name for p in tree.photos if "old" in p.name]
        assert len(tree.left_out) == 2 and str(top / "link") in tree.left_out[0]
    make_photo(top / "painted" / "new.jpg")
    (top / "painted" / NAME).write_bytes(b"{}")
    (top / "latest.jpg").symlink_to(top / "painted" / "new.jpg")
    tree = find_tree(top, top / "painted")
    assert "latest.jpg" not in [p.name for p in tree.photos] and str(top / "latest.jpg") in tree.left_out[0]


@links
def test_a_link_to_nothing_is_a_broken_photograph_and_a_pipe_is_none(top, tmp_path):
    (top / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(top / "pipe.jpg")
    assert "gone.jpg" in found(top, tmp_path / "out") and "pipe.jpg" not in found(top, tmp_path / "out")


def test_a_folder_that_cannot_be_read_is_named_and_the_rest_goes_on(top, tmp_path, monkeypatch):
    scandir = os.scandir

    def locked(path):
        if str(path).endswith("trip"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    tree = find_tree(top, tmp_path / "out")
    assert [p.name for p in tree.photos] == ["a.PNG", "b.jpg", "x.jpg/y.gif"]
    (sentence,) = tree.unread
    assert str(top / "trip") in sentence and "Permission denied" in sentence
    with pytest.raises(StylenormError, match="trip cannot be read .*change its permissions"):
        find_tree(top / "trip", tmp_path / "out")
    (tmp_path / "few" / "trip").mkdir(parents=True)
    assert len(find_tree(tmp_path / "few", tmp_path / "out").unread) == 1, "which is no fault of the folder above"


# ---- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "format, given, wanted",
    [
        ("keep", ["a.jpg", "a.png", "b.GIF", "c.bmp", "d.heic"], ["a.jpg", "a.png", "b.png", "c.png", "d.heic"]),
        ("jpeg", ["a.jpg", "a.png", "b.JPEG", "s/a.png"], ["a.jpg", "a-png.jpg", "b.JPEG", "s/a.jpg"]),
        ("jpeg", ["a.gif", "a.jpg", "a.png"], ["a-gif.jpg", "a.jpg", "a-png.jpg"]),
        ("jpeg", ["a.gif", "a.png"], ["a.jpg", "a-png.jpg"]),
        ("jpeg", ["a-png.jpg", "a.jpg", "a.png"], ["a-png.jpg", "a.jpg", "a-png-2.jpg"]),
        ("jpeg", ["A.jpg", "a.png"], ["A.jpg", "a-png.jpg"]),  # one file where case does not count
        ("keep", ["a.JFIF", "b.jpe", "c.psd", "d.j2k"], ["a.JFIF", "b.jpe", "c.png", "d.png"]),
        ("jpeg", ["a.jfif", "a.jpg", "b.jpe"], ["a.jfif", "a.jpg", "b.jpe"]),
        ("keep", ["A.jpg", "a.jpg", "X/b.jpg", "x/b.jpg"], ["A.jpg", "a-jpg.jpg", "X/b.jpg", "x/b-jpg.jpg"]),
        ("keep", ["a\u0308.jpg", "\xe4.jpg"], ["a\u0308.jpg", "\xe4-jpg.jpg"]),  # ä in two ways
        ("jpeg", ["B.jpg/x.jpg", "b.png"], ["B.jpg/x.jpg", "b-png.jpg"]),  # a folder of that name
        ("webp", ["a.b.tar.jpg"], ["a.b.tar.webp"]),
    ],
)  # fmt: skip
def test_names_of_paintings(format, given, wanted):
    assert output_names(names(*given), format, {}) == dict(zip(given, wanted))
    assert output_names(names(*reversed(given)), format, {}) == dict(zip(given, wanted)), "whatever order they come in"


def test_an_animated_gif_keeps_its_name_and_a_still_one_does_not():
    photos = names("a.gif", "a.png", "b.gif")
    assert output_names(photos, "keep", {}, {"a.gif"}) == {"a.gif": "a.gif", "a.png": "a.png", "b.gif": "b.png"}
    assert output_names(photos, "keep", {"b.gif": "b.gif"}, {"a.gif"})["b.gif"] == "b.gif", "an earlier name stays"
    assert output_names(photos, "jpeg", {}, {"a.gif"})["b.gif"] == "b.jpg"


def test_names_once_given_stay():
    known = output_names(names("a.png"), "jpeg", {})
    assert known == {"a.png": "a.jpg"}
    assert output_names(names("a.jpg", "a.png"), "jpeg", known) == {"a.png": "a.jpg", "a.jpg": "a-jpg.jpg"}
    assert output_names(names("a.gif"), "jpeg", known) == {"a.gif": "a-gif.jpg"}, "a painting of what is gone keeps its name"


def test_no_result_may_lie_among_the_photographs(tmp_path):
    top = tmp_path / "in" / "photos"
    top.mkdir(parents=True)
    with pytest.raises(StylenormError, match="would be taken for a photograph"):
        check_targets(top, tmp_path / "in", ["", "photos"])
    check_targets(top, tmp_path / "in", ["", "other"])
    check_targets(top, top / "painted", ["", "sub"])
    if os.name != "nt":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "sub").symlink_to(top)
        with pytest.raises(StylenormError, match="sub lies in"):
            check_targets(top, tmp_path / "out", ["", "sub"])
        (tmp_path / "way").symlink_to(top / "painted")
        check_targets(top, tmp_path / "way", [""])


@links
def test_no_result_may_lie_among_photographs_that_a_link_leads_to(work, tmp_path):
    """Nor where a folder is mounted twice: it is known by its place on the disk, and not by its path alone."""
    photo = make_photo(tmp_path / "out" / "trip" / "a.jpg", seed=1)
    make_photo(work.top / "trip" / "a.jpg", seed=2)
    (work.top / "link").symlink_to(photo.parent)
    photos = find_tree(work.top, tmp_path / "elsewhere").photos
    with Manifest(work.out) as manifest, pytest.raises(StylenormError, match="out/trip .*would be taken for a photograph"):
        make_plan(work.top, work.out, photos, [LOOK], "jpeg", manifest, again=True)


# ---- files that are whole ----------------------------------------------------------------------


def test_drafts_leave_nothing_behind(tmp_path, monkeypatch):
    write_whole(tmp_path / "a", b"old")
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new" and len(os.listdir(tmp_path)) == 1

    def fail(*_):
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError):
            write_whole(tmp_path / "a", b"newer")
    assert (tmp_path / "a").read_bytes() == b"new" and len(os.listdir(tmp_path)) == 1


@pytest.mark.parametrize("patience, refusals", [(1, 2), (0, 1)])
def test_what_another_program_looks_into_is_replaced_a_little_later(tmp_path, monkeypatch, patience, refusals):
    """On Windows, where scanners for viruses open each new file; elsewhere nobody's looking on is in the way."""
    tries, replace = [], os.replace

    def refused(*paths):
        tries.append(paths)
        if len(tries) <= refusals:
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(*paths)

    monkeypatch.setattr(os, "replace", refused)
    monkeypatch.setattr("stylenorm.drafts.PATIENCE", patience)
    with nullcontext() if patience else pytest.raises(PermissionError):
        write_whole(tmp_path / "a", b"new")
    assert len(tries) == (3 if patience else 1) and os.listdir(tmp_path) == (["a"] if patience else [])


@pytest.mark.usefixtures("no_root")
def test_a_file_that_is_read_only_stays(tmp_path):
    """What is renamed to its name would take its place: the system asks the folder alone."""
    (path := tmp_path / "a.webp").write_bytes(b"mine")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="a.webp"):
        write_whole(path, b"other")
    with pytest.raises(PermissionError, match="a.webp"), draft_of(path):
        pytest.fail("it was painted")
    with pytest.raises(ImageError, match="a.webp cannot be written .Permission denied"):
        write_walk(path, (pytest.fail("it was painted") for _ in range(2)), 2)
    with pytest.raises(StylenormError, match="a.webp cannot be written: Permission denied"):
        write_tensors(path, {}, {})
    with pytest.raises(PermissionError, match="a.webp"), _whole(path):
        pytest.fail("it was drawn")
    with pytest.raises(PermissionError, match="a.webp"):
        steps.stage(tmp_path, "a.webp", b"other")
    assert path.read_bytes() == b"mine" and os.listdir(tmp_path) == ["a.webp"]


@links
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    write_whole(tmp_path / "link", b"whole")
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"whole"
    with draft_of(tmp_path / "link") as draft:
        draft.write_bytes(b"written")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "link").read_bytes() == b"written"
    assert os.listdir(tmp_path / "elsewhere") == ["file"]


def test_stale_drafts_are_removed_and_nothing_else(tmp_path):
    draft = write_draft(tmp_path, b"half")
    (tmp_path / "mine.tmp").touch()
    assert draft.name.startswith(PREFIX) and draft.name.endswith(SUFFIX)
    assert remove_drafts(tmp_path) == 1 and os.listdir(tmp_path) == ["mine.tmp"]
    assert remove_drafts(tmp_path / "missing") == 0


def test_a_folder_that_a_film_is_painted_in_is_removed_when_it_is_old(tmp_path):
    folder = tmp_path / ".stylenorm-abcdef12.tmp"
    folder.mkdir()
    (folder / "00000.nut").write_bytes(b"begun")
    os.utime(folder, (time.time() - DAY - 60,) * 2)
    assert remove_drafts(tmp_path, growing=False) == remove_drafts(tmp_path) == 0, "it is written to"
    os.utime(folder / "00000.nut", (time.time() - DAY - 60,) * 2)
    os.utime(folder, (time.time() - DAY - 60,) * 2)
    assert remove_drafts(tmp_path, growing=False) == 1 and not folder.exists()


def test_drafts_of_pictures_are_removed_as_well_where_nobody_can_be_at_work_on_them(tmp_path):
    old, new = tmp_path / ".stylenorm-0123456789ab.tmp", tmp_path / ".stylenorm-ba9876543210.tmp"
    old.touch(), new.touch()
    os.utime(old, (time.time() - DAY - 60,) * 2)
    make_folder([Job(None, tmp_path / "painted.jpg", None)])
    assert os.listdir(tmp_path) == [new.name]
    assert remove_drafts(tmp_path) == 1


def test_a_batch_leaves_what_another_run_is_writing_into_its_folder(work):
    """stylize writes the frames of an animation for minutes, video joins a film; batches are the only ones of one another."""
    work.out.mkdir()
    with draft_of(work.out / "cat.gif") as draft:
        draft.write_bytes(b"frames so far")
        write_draft(work.out, b"of a batch that was killed")
        work.run()
        assert set(os.listdir(work.out)) == {NAME, draft.name, *(f"{i}.jpg" for i in range(6))}
        abandoned = write_draft(work.out, b"frames of a run that was killed").rename(work.out / draft.name.replace(SUFFIX, f"0{SUFFIX}"))
        os.utime(abandoned, (1, time.time() - 2 * DAY))
        work.run()
        assert draft.exists() and not abandoned.exists()
    assert (work.out / "cat.gif").read_bytes() == b"frames so far"


# ---- the manifest ------------------------------------------------------------------------------


def done_line(name: str, **more) -> dict:
    return {"kind": "done", "style": "kiss", "input": name, "output": name, "input_bytes": 1, "input_changed": 1} | more


def test_the_manifest_comes_back(tmp_path):
    strange = "ä\udcff\n猫.jpg"
    with Manifest(tmp_path / "new" / "out") as manifest:
        assert manifest.settings is None and manifest.done == {}
        manifest.begin({"size": None}, False)
        manifest.append(done_line(strange)), manifest.append(done_line("b.jpg")), manifest.append({"kind": "end"})
        manifest.append({"kind": "failed", "style": "kiss", "input": "b.jpg"})
    with Manifest(tmp_path / "new" / "out") as manifest:
        assert manifest.settings == {"size": None} and set(manifest.done) == {("kiss", strange), ("kiss", "b.jpg")}
        assert manifest.failed == {("kiss", "b.jpg")}
        manifest.append(done_line("b.jpg"))
    with Manifest(tmp_path / "new" / "out") as manifest:
        assert manifest.failed == set(), "what is painted at last has not failed"
        manifest.begin({"size": 5}, True)
    with Manifest(tmp_path / "new" / "out") as manifest:
        assert manifest.settings == {"size": 5} and manifest.replacing and manifest.done == {} and not manifest.ended
        manifest.append({"kind": "end", "left": 1})
    for ended in (False, True):
        with Manifest(tmp_path / "new" / "out") as manifest:
            assert manifest.ended == ended
            manifest.append({"kind": "end", "left": 0}), manifest.append({"kind": "end", "left": 7})
    with Manifest(tmp_path / "new" / "out") as manifest:
        manifest.begin({"size": 5}, True)
        assert not manifest.ended


def test_a_half_line_of_a_kill_is_passed_over(tmp_path):
    with Manifest(tmp_path) as manifest:
        manifest.begin({}, False)
        manifest.append(done_line("a.jpg"))
    with open(tmp_path / NAME, "ab") as file:
        file.write(b'{"kind": "done", "style": "kiss", "inp')
    with Manifest(tmp_path) as manifest:
        assert set(manifest.done) == {("kiss", "a.jpg")}
        manifest.append(done_line("b.jpg"))
    with Manifest(tmp_path) as manifest:
        assert set(manifest.done) == {("kiss", "a.jpg"), ("kiss", "b.jpg")}, "what follows is a line of its own"


def test_what_is_no_manifest_counts_for_nothing(tmp_path):
    (tmp_path / NAME).write_bytes(b"[1]\nnull\n{}\n\x00\x00\n{\"kind\": \"done\"}\n" + b"[" * 100_000 + b"\n")
    with open(tmp_path / NAME, "a") as file:
        file.write(json.dumps({key: value for key, value in done_line("a.jpg").items() if key != "input_bytes"}))
    with Manifest(tmp_path) as manifest:
        assert manifest.settings is None and manifest.done == {}


@pytest.mark.parametrize(
    "spoilt",
    [{"output": o} for o in ("../a.jpg", "/a.jpg", "trip/../../a.jpg", "", "a\0.jpg", 5, None, *(["\ud800.jpg"] if os.name != "nt" else []))]
    + [{"source": 5}],
)
def test_a_line_that_somebody_has_changed_counts_for_nothing(tmp_path, spoilt):
    """Above all none that would have a photograph painted to another place than the folder."""
    lines = [{"kind": "settings", "version": 1, "settings": {}, "replacing": False}, done_line("a.jpg") | spoilt, done_line("b.jpg")]
    (tmp_path / NAME).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with Manifest(tmp_path) as manifest:
        assert set(manifest.done) == {("kiss", "b.jpg")}


def test_an_unknown_suffix_that_somebody_has_noted_is_not_written(work):
    lines = [{"kind": "settings", "version": 1, "settings": {}, "replacing": False}, done_line("0.jpg", output="0.xyz")]
    work.out.mkdir()
    (work.out / NAME).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    work.run()
    assert work.files() == [f"{i}.jpg" for i in range(6)]


def test_a_newer_manifest_is_refused(tmp_path):
    (tmp_path / NAME).write_text(json.dumps({"kind": "settings", "version": 2, "settings": {}, "replacing": False}) + "\n")
    for _ in range(2):  # the refused one holds it no more
        with pytest.raises(StylenormError, match="newer stylenorm"):
            Manifest(tmp_path)


def test_two_runs_do_not_share_a_folder(tmp_path):
    with Manifest(tmp_path), pytest.raises(StylenormError, match="another stylenorm batch"):
        Manifest(tmp_path)
    Manifest(tmp_path).close()


def test_where_files_cannot_be_locked_a_batch_is_painted_all_the_same(tmp_path, monkeypatch):
    def none(file):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("stylenorm.manifest.lock_file", none)
    with Manifest(tmp_path) as manifest:
        manifest.begin({"size": 5}, False)
    with Manifest(tmp_path) as manifest:
        assert manifest.settings == {"size": 5}


def test_half_a_line_on_a_full_disk_is_an_error_and_what_follows_a_line_of_its_own(tmp_path, monkeypatch):
    with Manifest(tmp_path) as manifest:
        manifest.begin({}, False)
        with monkeypatch.context() as patch:
            real = os.write
            patch.setattr(os, "write", lambda file, data: real(file, data[:20]))
            with pytest.raises(OSError) as raised:
                manifest.append(done_line("a.jpg"))
        assert raised.value.errno == errno.ENOSPC
        manifest.append(done_line("b.jpg"))
    with Manifest(tmp_path) as manifest:
        assert set(manifest.done) == {("kiss", "b.jpg")}


def test_a_batch_that_is_refused_late_leaves_nothing(tmp_path):
    """A manifest keeps what is beside it from being painted by the batch of a folder above."""
    make_photo(tmp_path / "lib" / "a.jpg")
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "lib", tmp_path / "new", tmp_path / "empty"):
        with pytest.raises(ValueError, match="a painting that is none"), Manifest(out):
            raise ValueError("a painting that is none")
    assert sorted(os.listdir(tmp_path)) == ["empty", "lib"] and os.listdir(tmp_path / "lib") == ["a.jpg"]
    with Manifest(tmp_path / "other"):
        (tmp_path / "other" / "mine.txt").touch()
    assert os.listdir(tmp_path / "other") == ["mine.txt"]
    with Manifest(tmp_path / "new"):
        with pytest.raises(StylenormError, match="another stylenorm batch"):
            Manifest(tmp_path / "new")
        assert (tmp_path / "new" / NAME).exists(), "whom it belongs to is still there"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders")
def test_a_pipe_in_the_manifest_s_place_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(StylenormError, match=f"{NAME} is no file"):
        Manifest(tmp_path)
    assert (tmp_path / NAME).exists()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StylenormError, match="is a file"):
        Manifest(tmp_path / "file")
    if Path("/proc/self").exists():
        with pytest.raises(StylenormError, match="/proc/out cannot be written"):
            Manifest(Path("/proc/out"))


def test_differences_are_words():
    old = {"size": None, "quality": 95, "network": "a", "preserve_color": False, "style": [{"label": "kiss"}]}
    new = {"size": 20, "quality": 1, "network": "b", "preserve_color": True, "style": [{"label": "kiss"}, {"label": "scream"}]}
    assert differences(old, old) == []
    assert differences({"mask": "a" * 64}, {"mask": "0" * 64}) == ["another mask"], "a hash tells people nothing"
    assert differences({"mask": "a" * 64}, {"keep": "/masks"}) == ["keep unset instead of /masks", "mask set instead of unset"]
    assert differences(old, new) == [
        "another network", "preserve color off instead of on", "quality 95 instead of 1", "size unset instead of 20",
        "style kiss instead of kiss and scream",
    ]  # fmt: skip


def test_what_is_called_the_same_and_is_another_is_told_by_what_it_differs_in():
    named, painting = {"label": "kiss", "parts": [{"name": "kiss", "sha256": "a" * 64}], "image": None}, {"label": "a.png", "parts": [], "image": {"painting": "a" * 64, "size": None}}
    again, other, sized = named | {"parts": [{"name": "kiss", "sha256": "b" * 64}]}, *(painting | {"image": painting["image"] | more} for more in ({"painting": "b" * 64}, {"size": 64}))
    region = painting | {"label": "sky.png=a.png", "mask": "a" * 64}
    for key, old, new, told in (
        ("style", [named], [again], ["another style kiss"]),
        ("style", [named, painting], [named, other], ["another painting a.png"]),
        ("style", [painting, painting | {"label": "b.png"}], [sized, sized | {"label": "b.png"}], ["style size unset instead of 64"]),
        ("style", [painting], [sized | {"image": {"painting": "b" * 64, "size": 64}}], ["another painting a.png", "style size unset instead of 64"]),
        ("style", [painting], [named | {"label": "a.png"}], ["another style a.png"]),
        ("regions", [region], [region | {"mask": "b" * 64}], ["another mask in sky.png=a.png"]),
        ("regions", [region], [region | {"mask": "/masks"}], ["mask set instead of /masks in sky.png=a.png"]),
        ("regions", [region], [region | {"image": other["image"]}], ["another painting in sky.png=a.png"]),
        ("regions", [region], None, ["regions sky.png=a.png instead of unset"]),
    ):
        assert differences({key: old}, {key: new}) == told


# ---- painting ----------------------------------------------------------------------------------


@pytest.fixture
def work(tmp_path):
    """Six photographs, and what runs a batch over them with a brush that turns them upside down."""
    for i in range(6):
        make_photo(tmp_path / "in" / f"{i}.jpg", seed=i)
    return Work(tmp_path / "in", tmp_path / "out")


class Work:
    def __init__(self, top: Path, out: Path) -> None:
        self.top, self.out, self.painted = top, out, []

    def brush(self, picture, path, look):
        self.painted.append((path.name, look.label))
        return picture.rgb.transpose(Image.Transpose.ROTATE_180)

    def run(self, brush=None, looks=(LOOK,), again=False, limit=None, settings=None, replacing=None, **options) -> list[dict]:
        self.painted.clear()
        with Manifest(self.out) as manifest:
            if manifest.settings is None or again:
                manifest.begin(settings or {}, again if replacing is None else replacing)
            photos = find_tree(self.top, self.out).photos
            self.plan = make_plan(self.top, self.out, photos, looks, "jpeg", manifest, again)
            return list(paint_all(self.plan.tasks[:limit], brush or self.brush, self.out, manifest, **options))

    def files(self) -> list[str]:
        return sorted(p.relative_to(self.out).as_posix() for p in self.out.rglob("*") if p.is_file() and p.name != NAME)


def test_each_painting_is_noted_with_its_hashes(work):
    lines = work.run()
    assert work.files() == [f"{i}.jpg" for i in range(6)] and {line["kind"] for line in lines} == {"done"}
    for line in lines:
        for end, key in ((work.top, "input"), (work.out, "output")):
            data = (end / line[key]).read_bytes()
            assert (line[f"{key}_sha256"], line[f"{key}_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
        assert (line["width"], line["height"]) == (60, 44) and line["paint_seconds"] >= 0
    noted = [json.loads(text) for text in (work.out / NAME).read_text().splitlines()]
    assert sorted(map(str, lines)) == sorted(map(str, noted[1:]))


def read(path: Path, target: str, size: int | None = None, mask: str | None = None):
    return steps.read_photo(steps.Task(Photo(path, path.name, 1, 7, mask), ((LOOK, target),)), size)


def several(path: Path, **options) -> Path:
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return path


def test_what_a_file_has_beside_its_picture_is_noted(tmp_path):
    photo = make_photo(tmp_path / "a.jpg")
    facts = read(photo, "a.JPG")[1]
    assert set(facts) == {"input_sha256", "input_bytes", "input_changed", "read_seconds"} and facts["input_changed"] == 7
    assert read(photo, "a.jpg", mask="f" * 64)[1]["mask_sha256"] == "f" * 64
    pages = several(tmp_path / "a.tif")
    assert read(pages, "a.tif")[1]["pages"] == 2 and "pages" not in read(make_photo(tmp_path / "b.tif"), "b.tif")[1]
    if features.check("avif"):
        moving = several(tmp_path / "a.avif")
        assert read(moving, "a.AVIF")[1]["frames"] == 2 and "frames" not in read(moving, "a.jpg")[1]
        assert "frames" not in read(make_photo(tmp_path / "b.avif"), "b.avif")[1]


def test_what_moves_is_read_a_frame_at_a_time_and_a_gif_is_always_written_so(tmp_path):
    photo = make_photo(tmp_path / "a.jpg")
    moving = {suffix: several(tmp_path / f"a.{suffix}") for suffix in ("gif", "webp", "png")}
    for suffix, frames in (("GIF", 1), ("webp", 1), ("png", 2)):
        found = read(moving["gif"], f"a.{suffix}")[0]
        assert isinstance(found, steps.Moving) and (found.format, found.size, found.frames) == (suffix.lower(), (8, 6), frames)
        assert (found.data, found.name) == (moving["gif"].read_bytes(), str(moving["gif"]))
        assert not isinstance(read(moving[suffix.lower()], "a.jpg")[0], steps.Moving)
    assert isinstance(read(photo, "a.gif")[0], steps.Moving) and not isinstance(read(photo, "a.png")[0], steps.Moving)


def test_what_a_format_cannot_hold_is_no_painting(tmp_path):
    Image.new("L", (16_500, 2)).save(tmp_path / "wide.png")
    with pytest.raises(StylenormError, match="wide.png: webp holds at most 16383 .*; give --size 16383 or less, or --format png"):
        read(tmp_path / "wide.png", "wide.webp")
    assert read(tmp_path / "wide.png", "wide.webp", 16_383)[0].size == (16_500, 2) == read(tmp_path / "wide.png", "wide.png")[0].size
    frames = [Image.new("L", (16_500, 1), level) for level in (0, 9)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert isinstance(read(tmp_path / "moving.gif", "moving.webp")[0], steps.Moving), "which tells it when it is written"


def test_an_animation_is_painted_by_a_stream_with_what_it_takes(tmp_path, monkeypatch):
    masks = SimpleNamespace(word="people", mask_for=lambda path: f"the mask of {path.name}")
    options = {"strength": 0.5, "size": 9, "grain": False, "paint_at": "full", "tile": 3, "strip": True, "faces": 0.3, "masks": masks}
    options["regions"] = [("scream", masks)]
    stylizer = SimpleNamespace(stylize=lambda *words, **more: (words, more), stream=lambda *words, **more: (words, more))
    still, path = SimpleNamespace(name="in/?.jpg"), Path("in/a.jpg")
    found = {"mask": "the mask of a.jpg", "regions": [("scream", "the mask of a.jpg")]}
    assert steps.painted(stylizer, still, path, "kiss", options, 80) == ((still, "kiss"), {k: v for k, v in options.items() if k != "masks"} | found)
    assert steps.painted(stylizer, still, path, "kiss", {"size": 9}, 80) == ((still, "kiss"), {"size": 9}) and "masks" in options

    def write(data, file, begin, *words, each=None):
        file.write(b"painted")
        moved.append(each and next(each()))
        asked.append((data, begin("pooled"), words))
        return SimpleNamespace(size=(9, 7))

    asked, moved = [], []
    monkeypatch.setattr(steps, "write_animation", write)
    found = steps.painted(stylizer, steps.Moving(b"data", "in/a.gif", "webp", (8, 6), 1), Path("in/a.gif"), "kiss", options, 80)
    assert (found.data, found.size) == (b"painted", (9, 7)) and steps.encoded(found, "a.webp", 80) == b"painted"
    streamed = {"strength": 0.5, "size": 9, "grain": False, "paint_at": "full", "faces": 0.3, "mask": "the mask of a.gif", "regions": [("scream", "the mask of a.gif")]}
    assert asked == [(b"data", (("kiss",), {"fixed": "pooled", **streamed}), ("webp", 80, True, "in/a.gif", None))]
    steps.painted(stylizer, steps.Moving(b"data", "in/a.gif", "gif", (8, 6), 1), Path("in/a.gif"), "kiss", {"preserve_color": True, "notice": print}, 80)
    assert asked[1][1] == (("kiss",), {"fixed": "pooled", "preserve_color": True}) and asked[1][2][2:] == (False, "in/a.gif", print)
    assert moved == [{}, None], "nothing moves, and no masks"


def test_a_painting_has_the_format_of_its_name_and_lies_in_the_folder_of_it(tmp_path):
    picture = Image.effect_noise((64, 48), 80).convert("RGB")
    large, small = (steps.encoded(picture, "out/a.JPG", quality) for quality in (95, 20))
    assert large[:2] == b"\xff\xd8" and len(small) < len(large) / 2
    steps.publish(tmp_path / "out", "kiss/trip/a.jpg", steps.stage(tmp_path / "out", "kiss/trip/a.jpg", small), lambda: None)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")] == ["out/kiss/trip/a.jpg"]


@pytest.mark.parametrize(
    "error, told",
    [
        ("another machine is gone", "another machine is gone"), (StylenormError("it is odd"), "it is odd"), (OSError(5, "I/O error", "b.jpg"), "b.jpg: I/O error"),
        (OSError(5, "I/O error"), "a.jpg: I/O error"), (OSError("odd"), "a.jpg: odd"), (MemoryError(), "a.jpg needs more memory than there is; make it smaller"),
    ],
)  # fmt: skip
def test_a_failure_is_noted_in_words(error, told):
    line = steps.failed_line(Photo(Path("a.jpg"), "trip/a.jpg", 1, 1), LOOK, "out.jpg", error)
    assert line.pop("time").endswith("+00:00") and len(line) == 5
    assert line == {"kind": "failed", "style": "kiss", "input": "trip/a.jpg", "output": "out.jpg", "error": told}


def test_only_what_is_missing_is_done_again(work, monkeypatch):
    work.run(limit=4)
    assert len(work.painted) == 4
    before = {name: (work.out / name).stat().st_mtime_ns for name in work.files()}
    work.run()
    assert len(work.painted) == 2 and work.plan.there == 4
    assert {name: (work.out / name).stat().st_mtime_ns for name in before} == before
    (work.out / "3.jpg").unlink()
    (work.out / "4.jpg").write_bytes(b"")
    work.run()
    assert sorted(work.painted) == [("3.jpg", "kiss"), ("4.jpg", "kiss")]
    monkeypatch.setattr(batch_module, "hashlib", None)  # what has kept its size and date is not read again
    work.run()
    assert work.painted == [] and work.plan.there == 6


def test_several_styles_have_folders_and_decode_once(work, monkeypatch):
    reads = []
    monkeypatch.setattr(steps, "read_picture", lambda *a, **k: reads.append(1) or real(*a, **k))
    real = __import__("stylenorm.images", fromlist=["x"]).read_picture
    looks = (Look("kiss", "kiss"), Look("a:0.5+b:0.5", "a-0.5+b-0.5"))
    assert len(work.run(looks=looks)) == 12 and len(reads) == 6
    assert work.files()[0] == "a-0.5+b-0.5/0.jpg" and len(work.files()) == 12
    (work.out / "kiss" / "2.jpg").unlink()
    work.run(looks=looks)
    assert work.painted == [("2.jpg", "kiss")]


def slow_first(work, seconds: float = 0.5):
    """A brush that gives the readers time to run ahead."""

    def brush(picture, path, look):
        if not work.painted:
            time.sleep(seconds)
        return work.brush(picture, path, look)

    return brush


def test_photographs_of_one_size_are_painted_at_once_as_far_as_they_are_decoded(work):
    make_photo(work.top / "3.jpg", (44, 60), seed=3)
    groups = []

    def together(pictures, look):
        groups.append([Path(p.name).name for p in pictures])
        return [work.brush(p, Path(p.name), look) for p in pictures]

    looks = (Look("kiss", "kiss"), Look("scream", "scream"))
    alone = {name: (work.out / name).read_bytes() for name in work.run(looks=looks) and work.files()}
    lines = work.run(slow_first(work), looks, again=True, workers=8, alike=Alike(lambda picture: 4, together))
    assert sorted(work.painted) == sorted((f"{i}.jpg", look.label) for i in range(6) for look in looks)
    assert {name: (work.out / name).read_bytes() for name in work.files()} == alone and len(lines) == 12
    assert max(map(len, groups)) > 1 and all("3.jpg" not in group and len(group) <= 4 for group in groups)
    assert groups[::2] == groups[1::2], "each group in each look"


def test_at_once_each_is_painted_in_the_looks_that_are_missing_of_it(work):
    looks = (Look("kiss", "kiss"), Look("scream", "scream"))
    work.run(looks=looks)
    missing = [(f"{i}.jpg", looks[i % 2].label) for i in range(6)]
    for name, label in missing:
        (work.out / label / name).unlink()

    def together(pictures, look):
        return [work.brush(p, Path(p.name), look) for p in pictures]

    lines = work.run(slow_first(work, 0.2), looks, workers=8, alike=Alike(lambda picture: 4, together))
    assert sorted(work.painted) == missing == sorted((line["input"], line["style"]) for line in lines) and len(work.files()) == 12


def test_pictures_of_two_depths_are_not_painted_at_once(work):
    """What is asked of how many there may be is asked of the first of them alone."""
    for i in range(6):
        Image.fromarray(np.random.default_rng(i).integers(0, 65536, (44, 60), np.uint16)).save(work.top / f"{i}-deep.png")
    depths = []

    def together(pictures, look):
        depths.append({p.deep is None for p in pictures})
        return [work.brush(p, Path(p.name), look) for p in pictures]

    assert len(work.run(slow_first(work, 0.2), workers=8, alike=Alike(lambda picture: 4, together))) == 12
    assert depths and all(len(found) == 1 for found in depths)


def test_where_painting_is_slow_what_waits_is_lost_nowhere(work):
    assert len(work.run(slow_first(work, 0.15), workers=1)) == len(work.files()) == 6


def test_where_several_at_once_fail_each_is_tried_alone(work):
    def together(pictures, look):
        raise MemoryError

    assert {line["kind"] for line in work.run(slow_first(work), workers=8, alike=Alike(lambda picture: 4, together))} == {"done"}
    assert len(work.painted) == 6 and len(work.files()) == 6


def test_what_several_at_once_became_is_written_though_it_is_stopped_then(work):
    stop = threading.Event()

    def together(pictures, look):
        stop.set()
        return [work.brush(p, Path(p.name), look) for p in pictures]

    lines = work.run(slow_first(work, 0.2), workers=8, stop=stop, alike=Alike(lambda picture: 4, together))
    assert stop.is_set() and 1 < len(lines) == len(work.painted) == len(work.files())


def test_names_under_which_photographs_are_painted_with_their_own_suffix(work):
    """As an animation where one moves, as it was called before where there is a painting, and numbered or renamed where it must be."""
    for path in work.top.iterdir():
        path.unlink()
    for name in ("b.png", "b.bmp", "still.GIF"):
        make_photo(work.top / name)
    several(work.top / "moving.GIF", format="GIF")
    (work.top / "broken.gif").write_bytes(b"no picture")
    with Manifest(work.out) as manifest:
        manifest.begin({}, False)
        manifest.done["kiss", "still.GIF"] = done_line("still.GIF", output="still.gif")
        manifest.done["scream", "b.png"] = done_line("b.png", output="scream/b.webp")
        plan = make_plan(work.top, work.out, find_tree(work.top, work.out).photos, [LOOK], "keep", manifest)
    assert {task.photo.name: task.targets[0][1] for task in plan.tasks} == {
        "b.png": "b.png", "b.bmp": "b-bmp.png", "still.GIF": "still.gif", "moving.GIF": "moving.GIF", "broken.gif": "broken.png",
    }  # fmt: skip
    assert plan.renamed == [("b.bmp", "b-bmp.png", "another photograph")] and plan.paintings == 5 and plan.there == 0


def test_a_photograph_that_is_renamed_in_case_or_in_how_it_is_composed_keeps_its_painting(work):
    made = {}
    for number, name in enumerate(("Trip/IMG_1.jpg", "a\u0308.png")):
        made[name] = make_photo(work.top / name, seed=number)
    looks = (Look("kiss", "kiss"), Look("scream", "scream"))
    work.run(looks=looks)
    (work.top / "Trip").rename(work.top / "trip")
    (work.top / "trip" / "IMG_1.jpg").rename(work.top / "trip" / "img_1.JPG")
    made["a\u0308.png"].rename(work.top / "\xe4.png")
    before = work.files()
    for _ in range(2):
        assert work.run(looks=looks) == [] and work.plan.there == 16 and work.files() == before and not work.plan.renamed
    make_photo(work.top / "trip" / "img_1.JPG", seed=7)
    assert {line["output"] for line in work.run(looks=looks)} == {"kiss/Trip/IMG_1.jpg", "scream/Trip/IMG_1.jpg"}
    assert work.run(looks=looks) == [] and work.files() == before, "and its name stays"
    (work.top / "trip" / "img_1.JPG").unlink()
    (work.top / "Trip").mkdir(), make_photo(work.top / "Trip" / "img_1.jpg", seed=8)
    assert {line["output"] for line in work.run(looks=looks)} == {"kiss/Trip/img_1-jpg.jpg", "scream/Trip/img_1-jpg.jpg"}, "it may be either"
    assert work.plan.renamed == [("Trip/img_1.jpg", "Trip/img_1-jpg.jpg", "a painting of an earlier photograph")]


def test_when_a_painting_counts_as_there(tmp_path):
    photo, other = make_photo(tmp_path / "in" / "a.jpg"), make_photo(tmp_path / "other" / "a.jpg", seed=1)
    (target := tmp_path / "a.jpg").write_bytes(b"painted")
    line = done_line("a.jpg", source=str(photo), input_sha256="another", mask_sha256="1" * 64)
    manifest, plan = SimpleNamespace(done={("kiss", "a.jpg"): line}, replacing=False), batch_module.Plan()

    def there(path=photo, size=1, mask=None, **changed) -> bool:
        manifest.done["kiss", "a.jpg"] = line | changed
        return batch_module._is_there(target, manifest, LOOK, Photo(path, "a.jpg", size, 1, mask), plan)

    assert there() and there(mask="1" * 64) and not there(mask="2" * 64)
    assert not there(size=2) and there(size=2, input_sha256=hashlib.sha256(photo.read_bytes()).hexdigest())
    assert not there(tmp_path / "in" / "gone.jpg", 2) and plan.others == []
    assert there(size=2, source=str(other)) and plan.others == [("a.jpg", str(other))], "made of another one, which is still there"
    assert not there(size=2, source=str(tmp_path / "gone.jpg")) and len(plan.others) == 1
    del line["mask_sha256"]
    assert there(mask="2" * 64), "of before masks were noted"
    target.write_bytes(b"")
    assert not there()


@pytest.mark.parametrize("processors, workers", [(None, 2), (1, 2), (6, 3), (64, 8)])
def test_as_many_threads_read_as_half_the_processors_but_two_to_eight(processors, workers, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert batch_module.default_workers() == workers


def test_a_changed_photograph_is_painted_again_and_a_touched_one_is_not(work):
    work.run()
    os.utime(work.top / "1.jpg", (1, 1))
    make_photo(work.top / "2.jpg", seed=77)
    work.run()
    assert work.painted == [("2.jpg", "kiss")]


def test_a_changed_photograph_that_is_broken_first_is_painted_again_once_it_is_whole(work):
    work.run()
    before = (work.out / "2.jpg").read_bytes()
    (work.top / "2.jpg").write_bytes(b"half a copy")
    for _ in range(2):
        assert [line["kind"] for line in work.run()] == ["failed"] and not work.plan.strange
    assert (work.out / "2.jpg").read_bytes() == before
    make_photo(work.top / "2.jpg", seed=77)
    work.run()
    assert work.painted == [("2.jpg", "kiss")] and (work.out / "2.jpg").read_bytes() != before


def test_a_foreign_file_is_not_painted_over_unless_that_was_asked_for(work):
    work.out.mkdir()
    (work.out / "0.jpg").write_bytes(b"mine")
    work.run()
    assert (work.out / "0.jpg").read_bytes() == b"mine" and len(work.painted) == 5 and work.plan.strange == ["0.jpg"]
    work.run(again=True)
    assert (work.out / "0.jpg").read_bytes() != b"mine" and len(work.painted) == 6


def test_a_run_that_paints_over_resumes_with_what_it_has_not_done(work):
    work.run()
    work.run(again=True, limit=2)
    assert len(work.painted) == 2
    work.run()
    assert len(work.painted) == 4, "the old ones are there, but they are not this batch's"


def test_a_kill_between_note_and_name_leaves_nothing_that_looks_done(work, monkeypatch):
    work.run()

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(batch_module.os, "replace", kill)
        with pytest.raises(Killed):
            work.run(again=True, workers=1)
    work.run()
    assert len(work.painted) == 6 and len(work.files()) == 6


def test_broken_photographs_are_named_and_the_rest_goes_on(work):
    (work.top / "2.jpg").write_bytes(b"no picture")
    (work.top / "3.jpg").write_bytes((work.top / "4.jpg").read_bytes()[:300])
    (work.top / "5.jpg").write_bytes(b"")
    lines = {line["input"]: line for line in work.run()}
    assert [lines[f"{i}.jpg"]["kind"] for i in range(6)] == ["done"] * 2 + ["failed"] * 2 + ["done", "failed"]
    assert str(work.top / "2.jpg") in lines["2.jpg"]["error"]
    make_photo(work.top / "2.jpg")
    assert {line["input"]: line["kind"] for line in work.run()} == {"2.jpg": "done", "3.jpg": "failed", "5.jpg": "failed"}


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory"), StylenormError("odd one is odd")])
def test_a_painting_that_fails_is_one_line(work, error):
    def brush(picture, path, look):
        if picture.name.endswith("3.jpg"):
            raise error
        return work.brush(picture, path, look)

    failed = [line for line in work.run(brush) if line["kind"] == "failed"]
    assert [line["input"] for line in failed] == ["3.jpg"] and failed[0]["error"]
    assert len(work.files()) == 5


def test_a_mistake_of_ours_is_not_swallowed(work):
    def brush(picture, path, look):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        work.run(brush)


def test_a_target_that_is_a_folder_fails_alone(work):
    (work.out / "1.jpg").mkdir(parents=True)
    (work.out / "1.jpg" / "x").touch()
    lines = work.run(again=True)
    assert [line["input"] for line in lines if line["kind"] == "failed"] == ["1.jpg"]
    assert (work.out / "1.jpg" / "x").exists() and len(work.files()) == 6


@pytest.mark.parametrize("where", ["picture", "manifest"])
def test_a_full_disk_stops_everything_with_one_sentence(work, monkeypatch, where):
    count, real = [0], {"picture": steps.write_draft, "manifest": os.write}

    def full(*arguments):
        count[0] += 1
        if count[0] > 2:
            raise OSError(errno.ENOSPC, "No space left on device", "x")
        return real[where](*arguments)

    def run():
        with monkeypatch.context() as patch:
            patch.setattr(*((steps, "write_draft") if where == "picture" else (manifest_module.os, "write")), full)
            work.run(workers=1)

    with pytest.raises(StylenormError, match="the disk is full.*make room"):
        run()
    assert len(work.files()) == (2 if where == "picture" else 1), "and no drafts among them"
    work.run()
    assert len(work.files()) == 6


def test_a_folder_that_takes_no_painting_is_told_by_the_painting(work, monkeypatch):
    """And not by a draft, of which nobody knows."""

    def refuse(path, *_):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr("stylenorm.drafts.open", refuse, raising=False)
    assert {line["error"] for line in work.run()} == {f"{work.out / f'{i}.jpg'}: Operation not permitted" for i in range(6)}


def test_a_full_disk_while_errors_are_noted(work, monkeypatch):
    (work.top / "0.jpg").write_bytes(b"")
    real = Manifest.append

    def full(self, line):
        if line["kind"] == "failed":
            raise OSError(errno.ENOSPC, "No space left on device", "x")
        return real(self, line)

    monkeypatch.setattr(Manifest, "append", full)
    with pytest.raises(StylenormError, match="the disk is full"):
        work.run()


def test_stopping_finishes_the_current_picture_and_writes_it(work):
    stop, before = threading.Event(), set(threading.enumerate())

    def brush(picture, path, look):
        if len(work.painted) == 2:
            stop.set()
        return work.brush(picture, path, look)

    lines = work.run(brush, stop=stop, workers=1)
    assert len(lines) == 3 == len(work.files()) and not left_over(before)
    work.run()
    assert len(work.painted) == 3


def test_a_thread_that_still_reads_does_not_hold_what_paints(work, monkeypatch):
    """At the end of the process it would be the last to: torch frees tensors without the lock, and 'terminate called' it was."""

    class Brush:
        def __call__(self, picture, path, look):
            raise AssertionError

        most = paint = __call__

    stop, reading, go_on = threading.Event(), threading.Event(), threading.Event()

    def read_photo(task, size):
        reading.set()
        stop.set()
        go_on.wait(20)
        raise OSError

    monkeypatch.setattr(batch_module, "read_photo", read_photo)
    brush, alike = Brush(), Brush()
    held = weakref.ref(brush), weakref.ref(alike)
    before = set(threading.enumerate())
    work.run(brush, stop=stop, workers=1, alike=alike)
    del brush, alike
    assert reading.is_set() and [reference() for reference in held] == [None, None] and set(threading.enumerate()) - before
    go_on.set()
    assert not left_over(before)


def left_over(before: set[threading.Thread]) -> set[threading.Thread]:
    """Threads that have been started since and do not end."""
    deadline = time.monotonic() + 60
    while (found := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def test_reading_painting_and_writing_go_on_at_once(work, monkeypatch):
    at_work, seen, lock = [], set(), threading.Lock()

    def watched(name, function):
        def slowly(*arguments, **options):
            with lock:
                at_work.append(name)
                seen.add(frozenset(at_work))
            time.sleep(0.06)
            try:
                return function(*arguments, **options)
            finally:
                with lock:
                    at_work.remove(name)

        return slowly

    monkeypatch.setattr(steps, "read_picture", watched("read", steps.read_picture))
    monkeypatch.setattr(steps, "write_picture", watched("write", steps.write_picture))
    work.run(watched("paint", work.brush), workers=1)
    assert {"read", "paint", "write"} in seen


@pytest.mark.parametrize("pixels, most", [(10**9, 9), (100, 5)])
def test_few_pictures_are_in_memory_at_once(work, monkeypatch, pixels, most):
    """With 4 workers: 4 in the queue, one in the hand of each reader, one being painted. Huge ones: no queue."""
    for i in range(6, 40):
        make_photo(work.top / f"{i}.jpg", (20, 20))
    monkeypatch.setattr(batch_module, "PIXELS_AT_ONCE", pixels)
    lock, decoded, seen, real = threading.Lock(), [0], [], steps.read_picture

    def count(step: int) -> None:
        with lock:
            decoded[0] += step
            seen.append(decoded[0])

    def read(*arguments, **options):
        count(+1)
        return real(*arguments, **options)

    def brush(picture, path, look):
        time.sleep(0.01)
        count(-1)
        return work.brush(picture, path, look)

    monkeypatch.setattr(steps, "read_picture", read)
    assert len(work.run(brush, workers=4)) == 40
    assert 2 <= max(seen) <= most + 1  # a reader may count before the painter's hand is free


def test_room_is_given_back_by_what_fails(work, monkeypatch):
    monkeypatch.setattr(batch_module, "PIXELS_AT_ONCE", 100)

    def brush(picture, path, look):
        raise StylenormError("no")

    assert len(work.run(brush)) == 6
