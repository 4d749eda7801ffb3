"""stylenorm batch --ray on a Ray cluster of two workers on this machine: stopped, killed, and at a URL."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image, ImageOps

from stylenorm import Stylizer, batch_ray, batch_steps
from stylenorm.batch_ray import CORES, Brush, Crew, Result, Worker, find_slots
from stylenorm.batch_steps import Look, NoRoom, Task, stage
from stylenorm.cli import main
from stylenorm.cli_batch import check_answers
from stylenorm.errors import StylenormError
from stylenorm.manifest import NAME
from stylenorm.tree import Photo

# No token in the user's home, no report to Ray's makers, and workers that get their share of a busy machine.
PHOTOS = 24
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


@pytest.fixture(scope="module")
def cluster():
    """A cluster with room for two workers."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install ray")
    with pytest.MonkeyPatch.context() as patch:
        here = Path(__file__).parent
        for name, value in (QUIET | {"PYTHONPATH": os.pathsep.join(map(str, (here, here.parent)))}).items():
            patch.setenv(name, value)
        ray.init(num_cpus=2 * CORES, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield ray
        ray.shutdown()


@pytest.fixture
def photos(tmp_path) -> Path:
    for i in range(PHOTOS):
        make_photo(tmp_path / "in" / f"day{i % 2}" / f"{i}.png", (120 + i, 90), seed=i)
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "in"


def words(photos: Path, out, weights, *more) -> list[str]:
    front = ["batch", photos, out, "--style", "red-hill", "--weights", weights, "--ray", "auto", "--backend", "torch", *more]
    return [str(word) for word in front]


def done(out: Path) -> list[str]:
    lines = [json.loads(text) for text in (out / NAME).read_text().splitlines()]
    return [line["output"] for line in lines if line["kind"] == "done"]


def pictures(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and p.name != NAME)


def meddle(monkeypatch, after: int, deed) -> None:
    """Do ``deed``, to the crew, after so many lines of the next batch."""
    real = Crew.paint

    def paint(self, *arguments):
        for number, line in enumerate(real(self, *arguments), 1):
            if number == after:
                deed(self)
            yield line

    monkeypatch.setattr(Crew, "paint", paint)


def kill_a_busy_worker(crew: Crew) -> None:
    hand = next(hand for hand in crew.hands if hand.calls)
    os.kill(crew.ray.get(hand.number), signal.SIGKILL)


@pytest.mark.skipif(os.name == "nt", reason="signals differ there")
def test_stopped_then_a_worker_killed_and_nothing_lost_or_done_twice(cluster, photos, weights, tmp_path, monkeypatch, capsys):
    out, hired, hire = tmp_path / "out", [], Crew._hire

    def hiring(self, slot):
        hand = hire(self, slot)
        hand.number = hand.actor.__ray_call__.remote(lambda worker: os.getpid())  # asked before it has work to do
        hired.append(slot)
        return hand

    monkeypatch.setattr(Crew, "_hire", hiring)
    with monkeypatch.context() as patch:
        meddle(patch, 2, lambda crew: os.kill(os.getpid(), signal.SIGINT))
        assert main(words(photos, out, weights)) == 130
    first = done(out)
    assert 2 <= len(first) < PHOTOS - 8 and pictures(out) == sorted(first) and len(hired) == 2
    assert "the same command goes on" in capsys.readouterr().err

    made = {name: (out / name).stat().st_mtime_ns for name in first}
    meddle(monkeypatch, 1, kill_a_busy_worker)
    assert main(words(photos, out, weights)) == 1  # one photograph is broken
    assert len(hired) == 5, "the dead worker was replaced"
    told = capsys.readouterr()
    assert "broken.png is not a picture" in told.err and f"{len(first)} are there already" in told.out
    wanted = sorted(f"day{i % 2}/{i}.png" for i in range(PHOTOS))
    assert pictures(out) == sorted(done(out)) == wanted, "each is there, told once, and no draft lies about"
    assert {name: (out / name).stat().st_mtime_ns for name in first} == made
    stylizer = Stylizer(weights, device="cpu", backend="torch")
    for name in wanted:
        with Image.open(out / name) as image:
            theirs = np.asarray(image).astype(int)
        ours = np.asarray(stylizer.stylize(photos / name, "red-hill")).astype(int)
        assert np.abs(theirs - ours).max() <= 1, name


def test_a_worker_paints_animations_whole(weights, tmp_path):
    frames = [Image.new("RGB", (48, 32), color) for color in ("red", "green", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[40, 90, 130], loop=0)
    stylizer, look = Stylizer(weights, device="cpu", backend="torch"), Look("red-hill", "")
    style = stylizer.resolve("red-hill")
    worker = Worker(Brush(str(weights), style.network, "cpu", "torch", None, {"red-hill": style}, {"size": 40}, tmp_path / "out", 95), None)
    worker.prepare()
    (result,) = worker.paint(Task(Photo(tmp_path / "a.gif", "a.gif", 1, 1), ((look, "a.gif"),)))
    assert result.line["kind"] == "done" and result.line["width"] == 40
    with Image.open(result.draft) as image:
        assert (image.format, image.n_frames, image.info["duration"]) == ("GIF", 3, 40)


def test_what_a_worker_has_to_say_is_said_here(tmp_path):
    make_photo(tmp_path / "a.png", (30, 20), seed=1)

    def stylize(picture, style, notice):
        notice(f"{picture.name}: no people are to be seen in it")
        return picture.rgb

    worker, look, said = Worker(Brush(None, "", "cpu", "torch", None, {"red-hill": None}, {}, tmp_path / "out", 95), None), Look("red-hill", ""), []
    worker.stylizer = SimpleNamespace(stylize=stylize)
    task = Task(Photo(tmp_path / "a.png", "a.png", 1, 1), ((look, "a.png"),))
    (result,) = pickle.loads(pickle.dumps(worker.paint(task)))
    Crew("local", worker.brush, said.append)._published(task, result, SimpleNamespace(append=lambda line: None))
    assert said == [f"{tmp_path / 'a.png'}: no people are to be seen in it"] and (tmp_path / "out" / "a.png").is_file()


def test_a_painting_that_cannot_get_its_name_fails_alone_and_a_full_disk_stops_all(tmp_path, monkeypatch):
    task, out, noted = Task(Photo(tmp_path / "a.png", "a.png", 1, 1), ((Look("kiss", ""), "a.png"),)), tmp_path / "out", []
    crew, manifest = Crew("local", Brush(None, "", "cpu", "torch", None, {}, {}, out, 95)), SimpleNamespace(append=noted.append)

    def published(number: int | None = None):
        line = {"kind": "done", "style": "kiss", "input": "a.png", "output": "a.png"}
        with monkeypatch.context() as patch:
            if number:
                patch.setattr(batch_steps, "replace", lambda *_: broken(number))
            return crew._published(task, Result(line, stage(out, "a.png", b"painted")), manifest)

    def broken(number: int):
        raise OSError(number, os.strerror(number))

    assert published()["kind"] == "done" and [line["kind"] for line in noted] == ["done"]
    (out / "a.png").unlink(), (out / "a.png").mkdir()
    line = published()
    assert (line["kind"], line["style"], line["input"]) == ("failed", "kiss", "a.png") and noted[1:] == [line]
    assert line["error"].startswith(f"{out / 'a.png'}: ")
    (out / "a.png").rmdir()
    assert published(errno.EIO)["error"] == f"{tmp_path / 'a.png'}: {os.strerror(errno.EIO)}"
    with pytest.raises(NoRoom, match="the disk is full"):
        published(errno.ENOSPC)
    manifest.append = lambda line: broken(errno.EIO)
    with pytest.raises(NoRoom, match="cannot be written any more"):
        published()
    assert not any(out.iterdir()), "no draft either"


def test_workers_know_the_parts_and_masks_wherever_they_are(photos, weights, tmp_path, monkeypatch):
    results, left = [], Image.new("L", (40, 30))
    left.paste(255, (0, 0, 20, 30))

    class Alone:
        """A worker in this process, but in another folder."""

        def __init__(self, address, brush, say):
            self.worker = Worker(pickle.loads(pickle.dumps(brush)), None)

        __enter__, __exit__ = lambda self: self, lambda *_: None

        def start(self, stop):
            monkeypatch.chdir(tmp_path / "else")
            return self.worker.prepare()

        def paint(self, tasks, manifest, stop):
            for task in tasks:
                results.extend(self.worker.paint(task))
                yield results[-1].line

    monkeypatch.setattr(batch_ray, "Crew", Alone)
    for folder in ("else", "masks/day0"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("masks/day0/0.png", "one.png"):
        left.save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (Path("in") / "broken.png").unlink()
    assert main(words(Path("in"), Path("out"), weights, "--limit", 1, "--device", "cpu", "--region", "masks=blue-tree", "--keep", "one.png", "--faces", 0)) == 0
    assert [(r.line["kind"], r.line["input"]) for r in results] == [("done", "day0/0.png")]
    wanted = Stylizer(weights, device="cpu", backend="torch").stylize(photos / "day0" / "0.png", "red-hill", regions=[("blue-tree", left)], mask=ImageOps.invert(left), faces=0)
    with Image.open(results[0].draft) as image:
        assert np.abs(np.subtract(image, wanted, dtype=np.int16)).max() <= 1


@pytest.mark.slow
def test_at_a_url_that_the_workers_reach(cluster, photos, weights, tmp_path):
    url = f"local://{tmp_path}/out"
    assert main(words(f"local://{photos}", url, weights)) == 1
    assert pictures(tmp_path / "out") == sorted(done(tmp_path / "out")) and len(done(tmp_path / "out")) == PHOTOS
    assert main(words(f"local://{photos}", url, weights)) == 1
    assert len(done(tmp_path / "out")) == PHOTOS


class Fragile(Worker):
    """Dies over one photograph."""

    def paint(self, task):
        if task.photo.name == "day1/5.png":
            os._exit(1)
        return super().paint(task)


@pytest.mark.slow
def test_a_photograph_that_kills_its_workers_fails_alone(cluster, photos, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(batch_ray, "Worker", Fragile)
    assert main(words(photos, tmp_path / "out", weights)) == 1
    assert "5.png: 3 workers died over it" in capsys.readouterr().err
    assert len(done(tmp_path / "out")) == PHOTOS - 1 == len(pictures(tmp_path / "out"))


@pytest.mark.slow
def test_another_network_there_is_told(cluster, photos, weights, other_weights, tmp_path, monkeypatch, capsys):
    real = Crew.__init__

    def elsewhere(self, address, brush, say):
        real(self, address, replace(brush, weights=str(other_weights)), say)

    monkeypatch.setattr(Crew, "__init__", elsewhere)
    assert main(words(photos, tmp_path / "out", weights)) == 2
    assert "has another network than this machine" in capsys.readouterr().err


# ---- without a cluster -------------------------------------------------------------------------


def node(alive: bool = True, **resources) -> dict:
    return {"NodeID": "n", "Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    "nodes, device, gpus, cores",
    [
        ([node(CPU=64, GPU=4)], "auto", [1] * 4, []),
        ([node(CPU=64, GPU=4)], "cpu", [], [(n, n + 4) for n in range(0, 64, 4)]),
        ([node(CPU=10), node(CPU=8, GPU=1), node(False, CPU=9)], "auto", [1], [(0, 4), (4, 8)]),
        ([node(CPU=10), node(CPU=8, GPU=1)], "cuda", [1], []),
        ([node(CPU=2), node()], "auto", [], [(0, 2)]),
    ],
)
def test_a_worker_for_each_gpu_or_four_cores(nodes, device, gpus, cores):
    slots = find_slots(nodes, device)
    assert [slot.gpus for slot in slots if slot.gpus] == gpus and [slot.cores for slot in slots if not slot.gpus] == cores
    assert sum(slot.cpus for slot in slots) <= sum(has["Resources"].get("CPU", 0) for has in nodes)


def test_a_cluster_without_room_is_refused():
    with pytest.raises(StylenormError, match="GPU"):
        find_slots([node(CPU=8)], "cuda")
    with pytest.raises(StylenormError, match="cores"):
        find_slots([node(GPU=0)], "auto")


def test_what_cannot_be_done_is_said_before_anything_is_loaded(photos, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stylenorm.cli_batch.find_spec", lambda name: name)
    assert main(words("memory://in", tmp_path / "out", weights)) == 2
    assert "lies in one process" in capsys.readouterr().err
    monkeypatch.setattr("stylenorm.cli_batch.find_spec", lambda name: None)
    assert main(words(photos, tmp_path / "out", weights)) == 2
    assert 'pip install "stylenorm[ray]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_address_where_nothing_answers_is_refused(photos, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("stylenorm.cli_batch.find_spec", lambda name: name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check_answers(address), check_answers(f"ray://{address}")
    check_answers("auto"), check_answers("local"), check_answers("anyscale://x:1")
    for wrong in (address, f"ray://{address}", "127.0.0.1:99999"):
        assert main([*words(photos, tmp_path / "out", weights), "--ray", wrong]) == 2
        error = capsys.readouterr().err
        assert f"no Ray cluster answers at {wrong}" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
