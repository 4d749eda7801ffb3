"""A running app for the tests: a process of its own, on a small random network; and a program that talks to it.

A test file that imports `app_server` and `app_client` has the fixtures ``server`` and ``client``.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from conftest import TINY, add_generation, make_weights

ROOT = Path(__file__).parent.parent
KINDS = ("instance", "batch", "layer", "group")
ENDPOINTS = {
    "/styles", "/preview", "/stylize", "/regions", "/regions_file", "/folder", "/train_style", "/stop_training", "/compare",
    "/generate", "/stop_generate", "/film", "/stop_film", "/stop_folder",
}  # fmt: skip


@dataclass
class Server:
    url: str
    process: subprocess.Popen
    folder: Path  # its TMPDIR
    home: Path  # its STYLENORM_HOME
    lines: list[str]

    def disk(self) -> int:
        """Bytes in its temporary folder."""
        return sum(p.stat().st_size for p in self.folder.rglob("*") if p.is_file())

    def files(self) -> int:
        return sum(p.is_file() for p in self.folder.rglob("*"))

    def memory(self) -> int:
        """Bytes of memory, now."""
        if sys.platform != "linux":
            import psutil  # which comes with this package there

            return psutil.Process(self.process.pid).memory_info().rss
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the server is gone")


def app_weights(folder: Path, compared: bool = True) -> Path:
    """A weights folder for the app: a small network, its styles, and networks to compare."""
    add_generation(make_weights(folder, seed=0))
    for seed, kind in enumerate(KINDS if compared else ()):
        make_weights(folder / "compare" / kind, seed, replace(TINY, norm=kind))
    vgg = ROOT / "weights" / "vgg16.safetensors"
    try:
        (folder / "vgg16.safetensors").symlink_to(vgg)
    except OSError:  # links need rights on Windows
        shutil.copy(vgg, folder)
    return folder


@contextmanager
def running(tmp: Path, weights: Path, command=("-m", "app"), cwd: Path | None = None, **environment: str):
    """The app, until the block is left. environment: more variables for it."""
    folder, home = tmp / "tmp", tmp / "home"
    folder.mkdir(parents=True, exist_ok=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("GRADIO", "STYLENORM"))}
    env |= {
        "STYLENORM_WEIGHTS": str(weights), "STYLENORM_HOME": str(home), "TMPDIR": str(folder), "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1",
    } | environment  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, *command], cwd=cwd or ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []
    found: queue.Queue = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.append(line.rstrip())
            if "http://" in line and "stylenorm is at" in line:
                found.put(line.split(" at ")[1].split()[0])
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        url = found.get(timeout=180)
        assert url, "the app did not start:\n" + "\n".join(lines)
        yield Server(url, process, folder, home, lines)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_until(condition, seconds: float = 60, every: float = 0.2):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(every)
    return False


# ---- a program that uses it --------------------------------------------------------------------


VISITORS = 20  # that the app holds, so that it takes few to see that it holds no more
FETCHED = 2.0  # seconds that it keeps what was made at least
SMALL = """
import runpy
from functools import partial
from app import files, library
from stylenorm import engine, predicting

# Paintings, and what a style is trained on, are seen at 64 px: at 384 and 512 that takes most of the time.
engine.STYLE_SIZE = predicting.STYLE_SIZE = 64
library.NewStyleConfig = partial(library.NewStyleConfig, size=64, style_size=64, photo_scales=(64, 72))
"""
RUN = "runpy.run_module('app', run_name='__main__')"
FEW_VISITORS = f"{SMALL}files.MOST_VISITORS, files.FETCHED = {VISITORS}, {FETCHED}\n{RUN}"


@pytest.fixture(scope="module", name="server")
def app_server(tmp_path_factory):
    weights = app_weights(tmp_path_factory.mktemp("app-weights"))
    limits = {"STYLENORM_APP_UPLOAD_MB": "5", "STYLENORM_APP_MEGAPIXELS": "20"}
    with running(tmp_path_factory.mktemp("app"), weights, ("-c", FEW_VISITORS), **limits) as server:
        server.weights = weights
        with pytest.MonkeyPatch.context() as patch:  # gradio_client leaves a folder there for each file that it fetches
            patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("client")))
            yield server


@pytest.fixture(scope="module", name="client")
def app_client(server, tmp_path_factory):
    return new_client(server, tmp_path_factory.mktemp("downloads"))


def new_client(server: Server, downloads: Path):
    from gradio_client import Client

    return Client(server.url, verbose=False, download_files=str(downloads), analytics_enabled=False, httpx_kwargs={"timeout": 60})  # else 5 s


def saved(button) -> Path:
    """The file behind a download button's answer."""
    return Path(button["value"] if isinstance(button, dict) else button)


def refused(client, *args, **kwargs) -> str:
    """The one sentence that an action is refused with."""
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as error:
        client.predict(*args, **kwargs)
    text = str(error.value)
    assert "Traceback" not in text and "\n" not in text.strip()
    return text
