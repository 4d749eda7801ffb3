"""The exported network against the original: other sizes, blends, every kind of norm, and no stylenorm around."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_weights
from PIL import Image

from stylenorm import Stylizer, cli_export, export
from stylenorm.catalog import network_file
from stylenorm.checkpoint import load_network, load_style
from stylenorm.cli import main
from stylenorm.errors import StylenormError
from stylenorm.export import Portable, mirrored, origin
from stylenorm.functional import KINDS
from stylenorm.generator import Generator, GeneratorConfig, pad_to
from stylenorm.grain_traced import TracedGrain
from stylenorm.images import to_image, to_tensor
from stylenorm.plain import margin_of
from stylenorm.style import blend

SMALL = GeneratorConfig(widths=(8, 8), blocks=(0, 1), num_groups=4)
ENDING = cli_export.ENDING
SIZES = [(21, 34), (16, 16), (40, 13), (5, 3), (64, 200), (4, 4), (2, 30)]  # none is the one that was traced; some are no larger than a stride


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_weights(tmp_path_factory.mktemp("small"), seed=0, config=SMALL)


@pytest.fixture
def cli(capsys):
    def run(*words) -> SimpleNamespace:
        code = main([str(w) for w in words])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


@pytest.fixture(scope="module")
def exported(small, tmp_path_factory):
    """Writes a format once for all tests; gives the file's path."""
    folder, done, real, programs = tmp_path_factory.mktemp("exported"), {}, export._program, []

    def program(portable):  # what two of the formats are made of takes seconds
        programs[:] = programs or [real(portable)]
        return programs[0]

    def write(format: str):
        if format == "onnx":
            for package in ("onnx", "onnxscript", "onnxruntime"):
                pytest.importorskip(package)
        if format not in done:
            file = folder / f"network{ENDING[format]}"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(export, "_program", program)
                assert main(["export", "--format", format, "-o", str(file), "--weights", str(small)]) == 0
            done[format] = file
        return done[format]

    return write


def photograph(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).random((1, 3, height, width), np.float32)


# Runs in a process that knows no stylenorm: a file, its styles, and pictures in; paintings out.
ELSEWHERE = textwrap.dedent(
    """
    import sys
    import numpy as np

    file, styles, pictures, paintings = sys.argv[1:]
    styles = np.load(styles)
    style = 0.75 * styles["red-hill"] + 0.25 * styles["blue-tree"]
    if file.endswith(".onnx"):
        import onnxruntime

        session = onnxruntime.InferenceSession(file)
        run = lambda photo: session.run(None, {"content": photo, "style": style})[0]
    else:
        import torch

        program = torch.jit.load(file) if file.endswith(".pt") else torch.export.load(file).module()
        run = lambda photo: program(torch.tensor(photo), torch.tensor(style)).numpy()
    assert style.dtype == np.float32
    np.savez(paintings, **{name: run(photo) for name, photo in np.load(pictures).items()})
    try:
        import stylenorm
    except ImportError:
        assert "stylenorm" not in sys.modules
    else:
        raise AssertionError("stylenorm is in reach")
    """
)


@pytest.mark.parametrize("format", ["torchscript", pytest.param("torch-export", marks=pytest.mark.slow), "onnx"])
def test_a_blend_at_other_sizes_in_a_process_without_stylenorm(exported, small, tmp_path, format):
    file = exported(format)
    np.savez(tmp_path / "in.npz", **{f"{h}x{w}": photograph(h, w) for h, w in SIZES})
    words = ["-c", ELSEWHERE, file, file.with_name(f"{file.name}.styles.npz"), tmp_path / "in.npz", tmp_path / "out.npz"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    # -S -E would hide torch as well; an editable install is hidden by a module of that name that cannot be imported
    (tmp_path / "stylenorm.py").write_text("raise ImportError\n")
    result = subprocess.run(
        [sys.executable, *map(str, words)], cwd=tmp_path, env=environment, capture_output=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr.decode()
    network = load_network(small / "network.safetensors")
    styles = [(load_style(small / "styles" / f"{name}.safetensors"), w) for name, w in (("red-hill", 0.75), ("blue-tree", 0.25))]
    paintings = np.load(tmp_path / "out.npz")
    with torch.inference_mode():
        for h, w in SIZES:
            margin = margin_of((w, h), network.generator.config.stride)
            grained = TracedGrain()(torch.from_numpy(photograph(h, w)), margin).numpy()
            larger = np.pad(grained, ((0, 0), (0, 0), (margin, 0), (margin, 0)), "symmetric")
            wanted = network.generator(torch.from_numpy(larger), blend(styles))[..., margin:, margin:]
            assert paintings[f"{h}x{w}"].shape == (1, 3, h, w)
            np.testing.assert_allclose(paintings[f"{h}x{w}"], wanted.numpy(), atol=1e-4, rtol=0)


def test_it_paints_as_a_stylizer_does_at_every_size(small):
    """Also pictures that are no larger than a stride, which get no margin."""
    stylizer = Stylizer(small, "cpu", "torch")
    portable, row = Portable(load_network(small / "network.safetensors").generator).eval(), stylizer.style("red-hill").flat()
    for h, w in SIZES:
        image = Image.fromarray((photograph(h, w)[0].transpose(1, 2, 0) * 255).astype(np.uint8))
        with torch.inference_mode():
            found = to_image(portable(to_tensor(image), row))
        np.testing.assert_allclose(np.asarray(found, int), np.asarray(stylizer.stylize(image, "red-hill"), int), atol=1)


def facts(file) -> dict:
    if file.suffix == ".onnx":
        import onnx

        model = onnx.load(str(file))
        onnx.checker.check_model(model)
        return {entry.key: entry.value for entry in model.metadata_props}
    if file.suffix == ".pt2":  # `torch.export.load` takes seconds, and the program itself was read when it was written
        with zipfile.ZipFile(file) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/extra/stylenorm.json"))
            return json.loads(archive.read(name))
    extra = {"stylenorm.json": ""}
    torch.jit.load(str(file), _extra_files=extra)
    return json.loads(extra["stylenorm.json"])


@pytest.mark.parametrize("format", ["torchscript", "torch-export", "onnx"])
def test_the_file_tells_its_network_and_styles(exported, small, format):
    values = facts(exported(format))
    assert values["network"] == load_network(small / "network.safetensors").hash
    assert json.loads(values["styles"]) == ["blue-tree", "red-hill", "tall-grass"]
    assert json.loads(values["config"])["widths"] == [8, 8] and values["stylenorm"]
    assert values["source"] == "network.safetensors" and "licence" not in values  # those of a user's own training nobody knows
    assert json.loads(values["paintings"])["red-hill"]["artist"]


def test_the_shipped_network_tells_its_licence_and_source():
    told = origin(network_file(), {})
    assert told["licence"] == "MIT" and "stylenorm" in told["source"]
    assert origin(Path("mine/network.safetensors"), {"licence": "CC0"}) == {"source": "network.safetensors", "licence": "CC0"}


def test_the_lengths_of_an_onnx_file_have_names(exported):
    import onnx

    graph = onnx.load(str(exported("onnx"))).graph
    axes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)}
    assert axes["content"] == axes["painting"] == [1, 3, "height", "width"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_norm_in_torchscript(kind):
    check_kind(kind, "torchscript")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["torch-export", "onnx"])
def test_every_kind_of_norm_elsewhere(kind, format):
    if format == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)
    check_kind(kind, format)


def check_kind(kind: str, format: str) -> None:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(widths=(8, 8), blocks=(1, 1), norm=kind, num_groups=4))
    for module in generator.modules():
        if getattr(module, "running_var", None) is not None:
            module.running_var.uniform_(0.5, 2), module.running_mean.normal_()
    portable = Portable(generator.requires_grad_(False)).eval()
    with export.quiet():
        run = export.READERS[format](export.WRITERS[format](portable, {}))
    style = torch.randn(1, 2, sum(generator.config.channels))
    assert export.largest_difference(portable, run, style.numpy()) < 1e-5


def test_torchscript_runs_on_the_device_that_it_is_moved_to(exported):
    assert ": Device" not in str(torch.jit.load(str(exported("torchscript"))).inlined_graph)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 15, 16, 17, 100])
def test_padding_is_the_generators(length):
    x = torch.rand(1, 2, length, 3)
    torch.testing.assert_close(mirrored(x, -2, 8), pad_to(x.transpose(-1, -2), 8)[:, :, :3].transpose(-1, -2)[..., :3])


def test_what_is_printed(cli, small, tmp_path):
    file = tmp_path / "network.pt"
    words = ["export", "--format", "torchscript", "-o", file, "--weights", small]
    result = cli(*words)
    assert result.code == 0 and result.err == "" and str(file) in result.out and "3 styles" in result.out
    assert "differs from the original by" in result.out
    (report,) = [json.loads(line) for line in cli(*words, "--json").out.splitlines()]
    assert report["difference"] < 1e-5 and report["count"] == 3 and report["styles"] == str(tmp_path / "network.pt.styles.npz")
    assert sorted(os.listdir(tmp_path)) == ["network.pt", "network.pt.styles.npz"]


def test_what_differs_from_the_original_is_not_written(small, tmp_path, monkeypatch):
    def wrong(data):
        program = export.run_torchscript(data)
        return lambda content, style: program(content, style) + 2e-4

    monkeypatch.setitem(export.READERS, "torchscript", wrong)
    with pytest.raises(StylenormError, match="was not written: it would differ"):
        export.export_files("torchscript", tmp_path / "network.pt", small, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("no_root")
def test_what_may_not_be_written_is_told_before_the_work(small, tmp_path, monkeypatch):
    monkeypatch.setitem(export.WRITERS, "torchscript", lambda *_: pytest.fail("it was exported"))
    for name in ("network.pt", "network.pt.styles.npz"):
        (tmp_path / name).touch(0o444)
        with pytest.raises(StylenormError, match=f"{name} may not be written"):
            export.export_files("torchscript", tmp_path / "network.pt", small, {})
        (tmp_path / name).unlink()


def test_without_onnx_runtime_it_is_said_that_nothing_was_checked(cli, small, tmp_path, monkeypatch):
    monkeypatch.setattr(cli_export, "find_spec", lambda name: True)
    monkeypatch.setitem(export.WRITERS, "onnx", lambda *_: b"onnx")
    monkeypatch.setitem(export.READERS, "onnx", lambda data: None)
    result = cli("export", "--format", "onnx", "-o", tmp_path / "x.onnx", "--weights", small)
    assert result.code == 0 and "install onnxruntime" in result.out


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_missing_package_is_one_sentence(cli, small, tmp_path, monkeypatch, missing):
    monkeypatch.setattr(cli_export, "find_spec", lambda name: None if name == missing else True)
    result = cli("export", "--format", "onnx", "-o", tmp_path / "x.onnx", "--weights", small)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("stylenorm: writing ONNX takes the packages onnx and onnxscript: ")
    assert result.err.endswith('pip install "stylenorm[export]"\n')


def test_a_place_that_cannot_be_written(cli, small, tmp_path):
    (tmp_path / "x.pt").mkdir()
    result = cli("export", "--format", "torchscript", "-o", tmp_path / "x.pt", "--weights", small)
    assert result.code == 2 and "x.pt cannot be written" in result.err and os.listdir(tmp_path) == ["x.pt"]


def test_where_the_styles_cannot_be_written_no_network_is_and_that_is_told_before_the_work(cli, small, tmp_path, monkeypatch):
    (tmp_path / "x.pt.styles.npz").mkdir()
    monkeypatch.setitem(export.WRITERS, "torchscript", None)
    result = cli("export", "--format", "torchscript", "-o", tmp_path / "x.pt", "--weights", small)
    assert result.code == 2 and "x.pt.styles.npz cannot be written" in result.err and os.listdir(tmp_path) == ["x.pt.styles.npz"]


def test_a_style_may_be_called_as_an_argument_of_numpys():
    arrays = {"file": np.arange(3.0), "allow_pickle": np.ones((2, 2), np.float32)}
    read = np.load(io.BytesIO(export.savez(arrays)))
    assert list(read) == list(arrays) and all(np.array_equal(read[name], array) for name, array in arrays.items())
