"""Batches at URLs, in fsspec's file system in memory, held against the same on a disk."""

from __future__ import annotations

import json
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import fsspec
import pytest
from conftest import make_photo

from stylenorm.batch import _is_another
from stylenorm.cli import main
from stylenorm.errors import StylenormError
from stylenorm.manifest import NAME, UrlManifest, manifest_in
from stylenorm.places import UrlFile, UrlFolder, place
from stylenorm.tree import Photo, find_tree

NAMES = ("a.jpg", "b.png", "trip/c.jpg", "trip/ä — 猫.webp")


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


@pytest.fixture
def batch(weights, capsys):
    def run(source, out, *words) -> tuple[int, str, str]:
        fixed = ["--style", "red-hill", "--backend", "torch", "--device", "cpu", "--weights", weights]
        code = main([str(w) for w in ("batch", source, out, *fixed, *words)])
        return code, *capsys.readouterr()

    return run


def fill(memory, folder: Path) -> None:
    """The same photographs in memory://in and in a folder."""
    for i, name in enumerate(NAMES):
        make_photo(folder / name, (60 + i, 44), seed=i)  # of one size, they would be painted at once, to a level of 255
        memory.pipe_file(f"/in/{name}", (folder / name).read_bytes())
    memory.pipe_file("/in/.hidden.jpg", b"1"), memory.pipe_file("/in/notes.txt", b"1")


def found(memory, top: str = "/out") -> dict[str, bytes]:
    return {path.removeprefix(f"{top}/"): memory.cat_file(path) for path in memory.find(top) if not path.endswith(NAME)}


def manifest(memory) -> list[dict]:
    return [json.loads(text) for text in memory.cat_file(f"/out/{NAME}").splitlines()]


def test_from_url_to_url_as_on_a_disk(memory, batch, tmp_path):
    fill(memory, tmp_path / "in")
    assert batch(tmp_path / "in", tmp_path / "out")[0] == 0
    assert batch("memory://in", "memory://out")[0] == 0
    assert found(memory) == {name: (tmp_path / "out" / name).read_bytes() for name in NAMES}
    head, *lines, end = manifest(memory)
    assert head["photographs"] == "memory://in" and sorted(line["output"] for line in lines) == sorted(NAMES)
    assert (end["done"], end["failed"]) == (4, 0)
    assert batch("memory://in", tmp_path / "mixed")[0] == batch(tmp_path / "in", "memory://mixed")[0] == 0
    assert found(memory, "/mixed") == found(memory) == {name: (tmp_path / "mixed" / name).read_bytes() for name in NAMES}


def test_it_goes_on_where_it_was(memory, batch, tmp_path):
    fill(memory, tmp_path / "in")
    assert batch("memory://in", "memory://out", "--limit", "2")[0] == 0
    assert len(found(memory)) == 2
    code, told, _ = batch("memory://in/", "memory://out/")
    assert code == 0 and "2 are there already" in told and len(found(memory)) == 4
    assert sum(line["kind"] == "done" for line in manifest(memory)) == 4
    make_photo(tmp_path / "new.jpg", seed=9)
    memory.pipe_file("/in/a.jpg", (tmp_path / "new.jpg").read_bytes())  # changed since
    memory.rm("/out/b.png")
    assert "2 paintings to do, 2 are there already" in batch("memory://in", "memory://out")[1]
    code, _, told = batch("memory://in", "memory://out", "--quality", "50")
    assert code == 2 and "quality 95 instead of 50" in told


def test_overwrite_goes_on_as_well(memory, batch, tmp_path):
    fill(memory, tmp_path / "in")
    batch("memory://in", "memory://out")
    told = [batch("memory://in", "memory://out", "--overwrite", "--limit", "3")[1] for _ in range(3)]
    assert ["are there already" in text for text in told] == [False, True, False]
    assert [line["kind"] for line in manifest(memory)].count("settings") == 3


def test_a_manifest_is_put_there_at_its_beginning_at_its_end_and_now_and_then(memory, monkeypatch):
    memory.pipe_file(f"/out/{NAME}", b'{"kind": "settings", "ver')  # half a line, whoever left it
    record = manifest_in(place("memory://out"))
    record.append({"kind": "settings", "version": 1, "settings": {}, "replacing": False})

    def noted() -> list[str]:
        return [json.loads(text)["kind"] for text in memory.cat_file(f"/out/{NAME}").splitlines()[1:]]

    assert noted() == ["settings"]
    record.append({"kind": "done"})
    assert noted() == ["settings"], "not for every painting"
    monkeypatch.setattr(UrlManifest, "EVERY", -1)
    record.append({"kind": "done"})
    assert noted() == ["settings", "done", "done"]
    monkeypatch.undo()
    record.append({"kind": "failed"}), record.append({"kind": "end"})
    assert noted()[3:] == ["failed", "end"]
    record.append({"kind": "failed"}), record.close()
    assert noted()[5:] == ["failed"]


def test_a_photograph_of_another_folder_is_another_as_long_as_it_is_there(memory, tmp_path):
    """Whichever of the two lies at a URL."""
    fill(memory, tmp_path)
    local, there = Photo(tmp_path / "a.jpg", "a.jpg", 1, 1), Photo(place("memory://in") / "a.jpg", "a.jpg", 1, 1)
    others = [(there, "memory://in/b.png"), (there, str(tmp_path / "a.jpg")), (local, "memory://in/a.jpg")]
    assert [_is_another(photo, source) for photo, source in others] == [True] * 3
    moved = [(there, "memory://gone/a.jpg"), (there, str(tmp_path / "gone.jpg")), (local, "memory://gone/a.jpg")]
    same = [(there, "memory://in/a.jpg"), (local, str(tmp_path / "a.jpg")), (there, None)]
    assert [_is_another(photo, source) for photo, source in moved + same] == [False] * 6


def test_a_broken_file_is_named_and_the_rest_goes_on(memory, batch, tmp_path):
    fill(memory, tmp_path / "in")
    memory.pipe_file("/in/broken.jpg", b"no picture")
    code, _, told = batch("memory://in", "memory://out")
    assert code == 1 and "memory://in/broken.jpg is not a picture" in told and len(found(memory)) == 4


def test_paintings_among_the_photographs_are_none(memory, batch, tmp_path):
    fill(memory, tmp_path / "in")
    for _ in range(2):
        assert batch("memory://in", "memory://in/painted")[0] == 0
    assert len(found(memory, "/in/painted")) == 4
    memory.pipe_file("/in/own/a.jpg", b"x")
    code, _, told = batch("memory://in", "memory://in/own", "--overwrite")
    assert code == 2 and "memory://in/own/a.jpg" in told and "no batch has painted" in told
    memory.rm("/in/own", recursive=True)
    code, _, told = batch("memory://in", "memory://in")
    assert code == 2 and "where the photographs are" in told
    for name in ("kiss/stylenorm-manifest.jsonl", "kiss/a.jpg", "kisses/a.jpg"):
        memory.pipe_file(f"/in/{name}", b"x")
    tree = find_tree(place("memory://in"), place("memory://in/painted"))
    assert [p.name for p in tree.photos if "kiss" in p.name] == ["kisses/a.jpg"]
    assert tree.left_out == ["the folder memory://in/kiss was left out, for another batch has painted into it"]


@pytest.mark.parametrize(
    "source, out",
    [("memory://in", "memory:///in"), ("memory://in/trip", "memory:///in"), ("simplecache::memory://in", "memory://in")]
    + [("memory://in/trip", "filecache::simplecache::memory://in")],
)
def test_photographs_are_not_painted_over_by_whichever_url(memory, batch, tmp_path, source, out):
    fill(memory, tmp_path)
    before = found(memory, "/in")
    code, told, why = batch(source, out, "--overwrite")
    assert (code, told) == (2, "") and "another folder for the paintings" in why and found(memory, "/in") == before
    memory.pipe_file(f"/in/trip/{NAME}", b"{}")
    tree = find_tree(place("memory://in"), place("memory:///in/trip"))
    assert [photo.name for photo in tree.photos] == ["a.jpg", "b.png"], "paintings among the photographs are none"


def test_a_local_url_is_a_path(tmp_path):
    """So that it is known for the folder that a path names, and no photograph there is painted over."""
    for kind in ("local", "simplecache::file", "filecache::blockcache::local"):
        assert place(f"{kind}://{tmp_path.as_posix()}/in/") == tmp_path / "in"


@pytest.mark.parametrize(
    "url, word",
    [("memory://nothing", "holds no photograph"), ("nonsense://x", "nonsense"), ("s3://bucket/x", "s3fs")],
)
def test_what_cannot_be_opened_is_one_sentence(memory, batch, tmp_path, url, word):
    if word == "s3fs" and find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    code, out, told = batch(url, tmp_path / "out")
    assert (code, out) == (2, "") and word in told and told.count("\n") == 1


@pytest.mark.parametrize("prefix", ["", "./"])
def test_photographs_in_an_archive_are_found_and_read_however_its_members_are_called(batch, tmp_path, prefix):
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for i, name in enumerate(("a.jpg", "trip/b.png")):
            archive.add(make_photo(tmp_path / "in" / name, (60, 44), seed=i), prefix + name)
    assert batch(f"tar://::file://{tmp_path}/photos.tar", tmp_path / "out")[0] == 0
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")} == {"a.jpg", "trip/b.png", NAME}


def test_names_that_would_lead_out_of_a_folder_on_windows_are_left_out(memory, tmp_path, monkeypatch):
    for name in ("a.jpg", "C:/b.jpg", "C:c.jpg", "x\\..\\..\\d.jpg", "e?.jpg"):
        memory.pipe_file(f"/in/{name}", b"1")
    source = place("memory://in")
    monkeypatch.setattr("stylenorm.tree.UNWRITABLE", set())
    assert len(find_tree(source, tmp_path).photos) == 5
    monkeypatch.setattr("stylenorm.tree.UNWRITABLE", set('\\:*?"<>|'))
    tree = find_tree(source, tmp_path)
    assert [photo.name for photo in tree.photos] == ["a.jpg"] and len(tree.left_out) == 4
    for name in ("aux.jpg", "trip./f.jpg", "CON/g.jpg", "h .jpg", "auxiliary.jpg"):
        memory.pipe_file(f"/also/{name}", b"1")
    assert [photo.name for photo in find_tree(place("memory://also"), tmp_path).photos] == ["auxiliary.jpg", "h .jpg"]
    assert len(find_tree(source, place("memory://out")).photos) == 5, "what is no file of Windows' may be called as it likes"


def test_a_file_url_and_a_path_are_paths():
    assert place("file:///a%20b/c") == place("file://localhost/a%20b/c") == Path("/a b/c") and place("photos/") == Path("photos")
    assert place("file:////a/b") == Path("//a/b"), "which Python 3.14's url2pathname takes for another machine's"
    assert place("C://photos") == Path("C://photos")
    assert isinstance(place("memory://x/"), UrlFolder) and str(place("memory://x/")) == "memory://x"


@pytest.mark.parametrize("url", ["file://photos", "file://photos/2020", "file://", "memory://", "memory:///", "://", "://photos"])
def test_a_url_that_names_no_folder_is_not_the_folder_that_one_is_in(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stylenorm.places.SHARES", False)
    with pytest.raises(StylenormError, match=f"^{url} "):
        place(url)


def test_on_windows_a_share_of_another_machine_is_a_folder(monkeypatch):
    monkeypatch.setattr("stylenorm.places.SHARES", True)
    assert place("file://host/a%20b/c") == Path("//host/a b/c"), "and not the folder of that name here"
    assert place("file:///C:/a%20b/c") == Path("C:/a b/c") and place("file:///a:/b") == Path("a:/b")
    with pytest.raises(StylenormError, match="names no folder"):
        place("file://host")


def test_a_drive_that_is_gone_is_told(monkeypatch):
    folder = place("memory://x")
    monkeypatch.setattr(type(folder.files), "find", lambda *a, **k: (_ for _ in ()).throw(OSError("no route to host")))
    with pytest.raises(StylenormError, match="memory://x cannot be opened: no route"):
        list(folder.listed())


class Refused(Exception):
    """As botocore's and aiohttp's errors, no OSError."""


def refusing(*words):
    def call(*_, **__):
        raise Refused(*words)

    return call


def test_an_object_stores_own_errors_are_one_sentence(memory, batch, tmp_path, monkeypatch):
    monkeypatch.setattr(type(memory), "find", refusing("Unable to locate credentials"))
    code, out, told = batch("memory://in", tmp_path / "out")
    assert (code, out, told) == (2, "", "stylenorm: memory://in cannot be opened: Unable to locate credentials\n")


def test_a_file_that_an_object_store_refuses_fails_as_one_on_a_disk(memory, monkeypatch):
    for method, call in (("cat_file", UrlFile.read_bytes), ("pipe_file", lambda file: file.write_bytes(b"1"))):
        for words, told in ((("403, forbidden",), "403, forbidden"), ((), "Refused")):
            monkeypatch.setattr(type(memory), method, refusing(*words))
            with pytest.raises(OSError) as found:
                call(place("memory://in") / "b.png")
            assert (found.value.filename, found.value.strerror) == ("memory://in/b.png", told)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_file_system_of_one_connection_is_asked_one_thing_at_a_time(memory, monkeypatch, asynchronous):
    inside, met, met_there = threading.Semaphore(2), [], threading.Barrier(2)

    def ask(*_, **__) -> bytes:
        if asynchronous:
            met_there.wait(60)
        inside.acquire(), met.append(inside._value), time.sleep(0.001), inside.release()
        return b""

    for method in ("cat_file", "pipe_file"):
        monkeypatch.setattr(type(memory), method, ask)
    monkeypatch.setattr(type(memory), "async_impl", asynchronous)
    photo, painting = place("memory://in") / "a.jpg", place("memory://out") / "a.jpg"
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda n: painting.write_bytes(b"") if n % 2 else photo.read_bytes(), range(8)))
    assert asynchronous or set(met) == {1}
