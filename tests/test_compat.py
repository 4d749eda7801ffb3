"""torchvision, imported where its compiled operators do not load."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    def write(init: str) -> Path:
        (tmp_path / "torchvision").mkdir()
        (tmp_path / "torchvision" / "__init__.py").write_text(init)
        (tmp_path / "torchvision" / "models.py").write_text("VGG = 16\n")
        return tmp_path

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


def test_a_healthy_torchvision_is_left_alone(fake):
    program = (
        "from stylenorm import compat; assert compat.torchvision().models.VGG == 16; "
        "assert not compat.torchvision_libraries, 'operators were declared over the real ones'"
    )
    result = run(program, fake("from torchvision import models"))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "init, error", [("raise RuntimeError('out of luck')", "out of luck"), ("import no_such_package", "no_such_package")]
)
def test_other_troubles_are_not_hidden(fake, init, error):
    result = run("from stylenorm.compat import torchvision; torchvision()", fake(init))
    assert result.returncode == 1 and error in result.stderr


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
