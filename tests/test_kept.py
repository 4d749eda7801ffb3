"""Compiled graphs that outlive their process: taken where they fit, and never missed."""

import gc
import importlib.util
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import make_weights

from stylenorm import graph, kept
from stylenorm.catalog import cache_folder
from stylenorm.compat import openvino
from stylenorm.compiled import CompiledModel, made_once
from stylenorm.engine import Stylizer
from stylenorm.kept import Kept, release_of, state_of
from stylenorm.plain import plain_stylizer

ONE, TWO = ("one", 1), ("two", 2)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder in which nothing is kept yet."""
    monkeypatch.setenv("STYLENORM_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "cache"


def test_what_is_kept_is_found_by_all_that_it_depends_on(tmp_path):
    Kept(tmp_path, ONE).write(TWO, b"bytes")
    assert Kept(tmp_path, ONE).read(TWO) == b"bytes"
    assert Kept(tmp_path, TWO).read(TWO) is Kept(tmp_path, ONE).read(ONE) is Kept(tmp_path / "else", ONE).read(TWO) is None


@pytest.mark.parametrize("spoil", [lambda d: d[:-1], lambda d: d[:-1] + bytes([d[-1] ^ 1]), lambda d: b"", lambda d: d + b"x"])
def test_what_has_not_come_whole_is_as_good_as_none(tmp_path, spoil):
    keep = Kept(tmp_path, ONE)
    keep.write(TWO, b"bytes")
    (file,) = tmp_path.iterdir()
    file.write_bytes(spoil(file.read_bytes()))
    assert keep.read(TWO) is None
    keep.write(TWO, b"bytes")
    assert keep.read(TWO) == b"bytes"


def test_the_newest_few_stay(tmp_path):
    for i in range(9):
        Kept(tmp_path, ONE, 4).write((i,), bytes([i]))
        for file in tmp_path.iterdir():
            os.utime(file, ns=(0, file.stat().st_mtime_ns - 10**9))
    assert [Kept(tmp_path, ONE).read((i,)) for i in range(9)] == [None] * 5 + [bytes([i]) for i in range(5, 9)]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="the system has no such owners")
def test_nothing_is_taken_from_where_others_may_write(tmp_path, monkeypatch):
    keep = Kept(tmp_path / "cache", ONE)
    keep.write(TWO, b"bytes")
    assert keep.folder.stat().st_mode & 0o777 == 0o700
    keep.folder.chmod(0o777)
    assert keep.read(TWO) is None
    keep.folder.chmod(0o700)
    assert keep.read(TWO) == b"bytes"
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert keep.read(TWO) is None
    Kept(tmp_path / "cache", ONE).write(ONE, b"mine")
    assert len(list(keep.folder.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        Kept(folder, ONE).write(TWO, b"bytes")
        assert Kept(folder, ONE).read(TWO) is None and not Kept(folder, ONE).has(TWO)


def test_the_state_of_a_file(tmp_path):
    file = tmp_path / "file"
    assert state_of(file) is None
    file.write_bytes(b"1")
    before = state_of(file)
    os.utime(file, ns=(0, 12300))  # Windows counts in steps of 100
    assert state_of(file) == (1, 12300) != before


def test_the_release_of_a_package_that_is_not_imported_for_it(tmp_path, monkeypatch):
    (tmp_path / "brush_reader").mkdir()
    file, old, new = tmp_path / "brush_reader" / "__init__.py", *(tmp_path / f"brush_reader-{n}.dist-info" for n in (1, 2))
    file.write_text("raise RuntimeError")
    old.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    releases = [release_of("brush_reader"), release_of("brush_reader")]
    old.rename(new)  # an update that leaves a file's time as it is, as some installers do
    releases.append(release_of("brush_reader"))
    os.utime(file, ns=(0, 12300))  # Windows counts in steps of 100  # one whose version nobody has written down
    releases.append(release_of("brush_reader"))
    assert releases[0] == releases[1] and len(set(map(repr, releases))) == 3
    assert release_of("no_such_package") is None


def test_the_releases_of_what_is_installed_have_their_versions():
    import tifffile

    assert tifffile.__version__ in str(release_of("tifffile"))


needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")


class Counted:
    """Builds a model slowly and counts how often. model: what is made of it, so that they form a ring."""

    def __init__(self, keep=None) -> None:
        self.count = 0
        self.model = CompiledModel(self.build, {}, keep)

    def build(self):
        import openvino.opset13 as ops

        self.count += 1
        time.sleep(0.2)
        x = ops.parameter([1, -1], np.float32)
        return openvino().Model([ops.result(ops.relu(x))], [x])


FORKING = """
import os, threading, time
from stylenorm.compiled import making, turn
def busy(lock):
    with lock:
        at_it.set()
        time.sleep(0.25)
for lock in (making, turn):
    at_it = threading.Event()
    threading.Thread(target=busy, args=[lock]).start()
    at_it.wait()
    child = os.fork()
    if not child:
        os._exit(not lock.acquire(timeout=60))
    print(os.waitpid(child, 0)[1], lock.acquire(timeout=60))
    lock.release()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system forks no processes")
def test_a_process_that_is_forked_off_while_a_thread_is_at_a_model_has_its_turn():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", FORKING], env=environment, capture_output=True, text=True, timeout=200)
    assert done.stdout == "0 True\n" * 2, done.stderr


FORKING_MEANWHILE = """
import os, signal, threading, time
from PIL import Image
from stylenorm.compiled import CompiledModel
from stylenorm.people import Seen
def slowly(*_):
    at_it.set()
    time.sleep(0.3)
    return Image.new("L", (8, 8), 255)
class Model(CompiledModel):
    def __init__(self, made=None):
        self._taking, self._taken, self._made = None, made, slowly
for ask in (lambda *made: Model(*made).model, lambda *made: Seen(None, find=slowly).people):
    at_it = threading.Event()
    thread = threading.Thread(target=ask)
    thread.start()
    at_it.wait()
    if not (child := os.fork()):
        signal.alarm(5)
        ask("made")
        os._exit(0)
    print(os.waitpid(child, 0)[1], end=" ")
    thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system forks no processes")
def test_a_process_that_is_forked_off_while_a_thread_waits_for_a_model_does_not_wait_for_that_thread():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", FORKING_MEANWHILE], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "0 0 ", done.stderr


@needs_openvino
def test_what_is_made_once_is_made_once_whoever_asks():
    made, gate = [], threading.Barrier(4)

    @made_once
    def thing() -> list:
        made.append(1)
        time.sleep(0.05)
        return [len(made)]

    def ask(_):
        gate.wait()
        return thing()

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert made == [1] and all(other is found[0] for other in found)
    thing.cache_clear()
    assert thing() == [2]


def test_threads_that_ask_at_once_compile_once(tmp_path):
    keep = Kept(tmp_path, ONE)
    Counted(keep)
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"nonsense")
    counted = Counted(keep)
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda _: counted.model.model, range(4)))
    assert counted.count == 1 and len(set(map(id, models))) == 1


@needs_openvino
def test_a_model_goes_with_the_last_that_holds_it(tmp_path):
    gc.disable()
    try:
        for _ in range(2):  # made, and taken
            counted = Counted(Kept(tmp_path, ONE))
            assert np.array_equal(counted.model(np.array([[-1, 2]], np.float32))[0], [[0, 2]])
            gone = weakref.ref(counted.model)
            del counted
            assert gone() is None
    finally:
        gc.enable()


@needs_openvino
def test_a_model_that_cannot_be_kept_is_of_use_still(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no room")

    monkeypatch.setattr(openvino().CompiledModel, "export_model", fail)
    assert Counted(Kept(tmp_path, ONE)).model(np.ones((1, 2), np.float32)) and not list(tmp_path.iterdir())


def painted(weights, photo, backend="openvino"):
    stylizer = plain_stylizer(weights, "cpu", backend, None, None)
    return np.asarray(stylizer.stylize(photo, stylizer.resolve([("red-hill", 1.0)]), faces=0))  # what finds them would be kept as well, if no other test had it made


@needs_openvino
@pytest.mark.parametrize("kind, graphs", [("usual", 1), ("of 16 bits", 2), ("of one colour", 2)])
def test_a_second_process_compiles_nothing_and_paints_the_same(weights, home, photo, monkeypatch, kind, graphs):
    if kind == "of 16 bits":
        photo = np.random.default_rng(0).integers(0, 65536, (40, 50, 3), np.uint16)
    elif kind == "of one colour":
        photo = np.full((40, 50, 3), (30, 90, 200), np.uint8)
    first = painted(weights, photo)
    assert [file.suffix for file in home.iterdir()] == [".bin"] * graphs
    compiles = []
    monkeypatch.setattr(graph, "openvino_graph", lambda *a: compiles.append(a))
    monkeypatch.setattr("stylenorm.plain.read_arrays", lambda file, *a: compiles.append(file) or read(file, *a))
    from stylenorm.stored import read_arrays as read

    assert np.array_equal(painted(weights, photo), first)
    assert [getattr(file, "name", file) for file in compiles] == ["red-hill.safetensors"]


@needs_openvino
def test_other_weights_under_the_same_name_are_compiled_anew(home, tmp_path, photo):
    weights = make_weights(tmp_path / "w", 5)
    first = painted(weights, photo)
    other = make_weights(tmp_path / "v", 6)
    (other / "network.safetensors").replace(weights / "network.safetensors")
    for file in (other / "styles").iterdir():
        file.replace(weights / "styles" / file.name)
    second = painted(weights, photo)
    assert not np.array_equal(first, second) and len(list(home.iterdir())) == 2


@needs_openvino
def test_a_kept_file_of_nonsense_is_replaced(weights, home, photo):
    first = painted(weights, photo)
    (file,) = home.iterdir()
    good = file.read_bytes()
    for data in (b"", b"nonsense", good[kept.SUM : 1000], good[kept.SUM : -1]):
        file.write_bytes(kept._sum(data) + data)
        assert np.array_equal(painted(weights, photo), first)
        assert len(file.read_bytes()) > len(good) // 2


@needs_openvino
def test_nothing_is_kept_that_says_where_it_was_made(weights, home, photo):
    painted(weights, photo)
    (file,) = home.iterdir()
    assert str(weights).encode() not in file.read_bytes()
    assert home == cache_folder()


@needs_openvino
def test_graphs_of_two_precisions_are_kept_apart(home, photo):
    def kiss(backend):
        stylizer = plain_stylizer(None, "cpu", backend, None, None)
        return np.asarray(stylizer.stylize(photo, stylizer.resolve([("kiss", 1.0)]), faces=0))

    first = [kiss("openvino"), kiss("openvino-int8")]
    assert not np.array_equal(*first) and len(list(home.iterdir())) == 2
    assert np.array_equal([kiss("openvino"), kiss("openvino-int8")], first)


@needs_openvino
def test_where_the_network_file_is_of_no_use_either_the_stylizer_paints_or_tells(weights, home, photo, monkeypatch):
    def nothing(*_):
        raise KeyError("stem.conv.weight")

    first = painted(weights, photo)
    (file,) = home.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    monkeypatch.setattr("stylenorm.plain.part", nothing)
    stylizer = plain_stylizer(weights, "cpu", "openvino", None, lambda: Stylizer(weights, device="cpu", backend="openvino"))
    assert np.array_equal(np.asarray(stylizer.stylize(photo, stylizer.resolve([("red-hill", 1.0)]))), first)
