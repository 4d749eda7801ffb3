"""torchvision, imported where its compiled operators do not load; packages that would tell their makers of their use."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stylenorm import compat

ROOT = Path(__file__).parent.parent

# What torchvision's import does, and dies on where a build for CUDA meets a torch without.
NEEDS_OPERATORS = """
import torch
for name in ("nms", "qnms"):
    @torch.library.register_fake("torchvision::" + name)
    def _(dets, scores, iou_threshold):
        return dets.new_empty(0, dtype=torch.int64)
from torchvision import models
"""


def run(program: str, *folders) -> subprocess.CompletedProcess:
    path = os.pathsep.join(map(str, [*folders, ROOT, os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def fake(tmp_path):
    def write(init: str, name: str = "fake") -> Path:
        package = tmp_path / name / "torchvision"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(init)
        (package / "models.py").write_text("VGG = 16\n")
        return package.parent

    return write


def test_the_fake_fails_as_the_real_one_does(fake):
    result = run("import torchvision", fake(NEEDS_OPERATORS))
    assert "operator torchvision::nms does not exist" in result.stderr


def test_missing_operators_are_made_up_for(fake):
    program = (
        "from stylenorm.compat import torchvision as tv; assert tv().models.VGG == 16; assert tv() is tv(); import torchvision"
    )
    result = run(program, fake(NEEDS_OPERATORS))
    assert result.returncode == 0, result.stderr


def test_other_troubles_are_not_hidden_and_a_healthy_torchvision_is_left_alone(fake):
    """In one process, as to import torch takes longest."""
    luck = fake("raise RuntimeError('out of luck')", "luck")
    package = fake("import no_such_package", "package")
    healthy = fake("from torchvision import models", "healthy")
    program = f"""
import sys
from stylenorm import compat
for folder, told in (({str(luck)!r}, "out of luck"), ({str(package)!r}, "no_such_package")):
    sys.path.insert(0, folder)
    try:
        compat.torchvision()
    except (RuntimeError, ImportError) as error:
        assert told in str(error), error
    else:
        raise AssertionError(f"{{told}} was hidden")
    sys.path.remove(folder)
sys.path.insert(0, {str(healthy)!r})
assert compat.torchvision().models.VGG == 16
assert not compat.torchvision_libraries, "operators were declared over the real ones"
"""
    result = run(program)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_the_real_one():
    program = """
from stylenorm.compat import torchvision
tv = torchvision()
assert tv.models.VGG16_Weights.IMAGENET1K_FEATURES.url
layers = tv.models.vgg.make_layers(tv.models.vgg.cfgs["D"][:6])
import torch
assert layers(torch.zeros(1, 3, 32, 32)).shape == (1, 128, 8, 8)
tv.transforms.functional.resize(torch.zeros(3, 32, 32), [16, 16], antialias=True)
"""
    result = run(program)
    assert result.returncode == 0, result.stderr


WATCHED = """
import socket
def refuse(host, *_, **__):
    open("asked", "a").write(f"{host}\\n")
    raise socket.gaierror("refused")
socket.getaddrinfo = refuse
import threading
"""


@pytest.mark.parametrize(
    "package, use",
    [
        ("openvino", "from stylenorm.compat import openvino; openvino().Core()"),
        ("onnxruntime", "from stylenorm.compat import onnxruntime; onnxruntime().InferenceSession(open('model', 'rb').read())"),
    ],
)
def test_nobody_is_told_of_a_package_that_is_used(package, use, tmp_path):
    """No address is looked up, and the home folder stays as it was."""
    pytest.importorskip(package)
    if package == "onnxruntime":
        onnx = pytest.importorskip("onnx")
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", 1, [1])], [value("y", 1, [1])]
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
        (tmp_path / "model").write_bytes(model.SerializeToString())
    home = tmp_path / "home"
    home.mkdir()
    moved = {"HOME": str(home), "USERPROFILE": str(home), "LOCALAPPDATA": str(home), "PYTHONPATH": str(ROOT)}
    program = WATCHED + use + "\n[t.join(5) for t in threading.enumerate() if t is not threading.current_thread()]"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=tmp_path, env=os.environ | moved, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "asked").exists() and list(home.rglob("*")) == []


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
def test_openvino_has_its_converter_still_but_imports_it_late():
    program = """
import sys
from stylenorm.compat import openvino
ov = openvino()
assert "openvino.tools.ovc" not in sys.modules
assert not hasattr(ov, "no_such_thing")
from openvino import convert_model
assert convert_model is ov.convert_model is sys.modules["openvino.tools.ovc"].convert_model
assert openvino() is ov
"""
    result = run(program)
    assert result.returncode == 0, result.stderr


INTERRUPTED = """
import signal
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt as stop:  # as OpenVINO's
    raise ImportError("initialization failed") from stop
"""


def test_ctrl_c_while_openvino_is_imported_stops_the_program(tmp_path):
    (tmp_path / "openvino.py").write_text(INTERRUPTED)
    program = """
import signal
from stylenorm.compat import openvino
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    openvino()
except KeyboardInterrupt:
    print("stopped", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    result = run(program, tmp_path)
    assert (result.returncode, result.stdout) == (0, "stopped True\n"), result.stderr


MANY_SIZES = """
import ctypes, numpy as np, openvino.opset13 as ops
from stylenorm.compat import openvino, openvino_core

class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

used = ctypes.CDLL(None).mallinfo2
used.restype = Heap
x = image = ops.parameter([1, 16, -1, -1], np.float32)
for side in range(1, 9):
    weight = np.full((16, 16, side, 3), 0.01, np.float32)
    x = ops.convolution(x, ops.constant(weight), [1, 1], [side // 2, 1], [(side - 1) // 2, 1], [1, 1])
model = openvino_core().compile_model(openvino().Model([x], [image]), "CPU")
for number in range(240):
    model(np.zeros((1, 16, 8 + number % 16, 8 + number // 16), np.float32))
    if number == 120:
        before = used().uordblks
print((used().uordblks - before) / 1e6)
"""


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
@pytest.mark.skipif(os.name != "posix" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="asks glibc what it holds")
def test_openvino_forgets_sizes_that_it_met_long_ago():
    found = run(MANY_SIZES)
    assert found.returncode == 0, found.stderr
    assert float(found.stdout) < 10  # MB; 67 with what it keeps by itself


@pytest.mark.parametrize("machine, kept", [("x86_64", ["CPU"]), ("AMD64", ["CPU"]), ("arm64", []), ("aarch64", [])])
def test_on_arm_openvino_is_not_told_to_keep_what_it_prepares(machine, kept, monkeypatch):
    """By itself it keeps nothing there, as what it keeps is taken for others: whatever was painted was blurred streaks."""
    told = []
    core = SimpleNamespace(get_versions=lambda device: {}, set_property=lambda device, values: told.append(device))
    monkeypatch.setattr(compat, "cores", [])
    monkeypatch.setattr(compat, "openvino", lambda: SimpleNamespace(Core=lambda: core))
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert compat.openvino_core() is core and told == kept
