"""The generator for other programs: ONNX, TorchScript and torch.export, any picture size, the style an input."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stylenorm.catalog import network_file, shipped_folder, style_entries
from stylenorm.checkpoint import load_network, load_style
from stylenorm.compat import onnxruntime
from stylenorm.device import usual_defaults
from stylenorm.drafts import is_read_only, write_whole
from stylenorm.errors import StylenormError
from stylenorm.generator import Generator
from stylenorm.grain_traced import TracedGrain, counted
from stylenorm.style import Style

TOLERANCE = 1e-4
OF_PAINTINGS = "title", "artist", "year", "licence"  # what is told of those behind the styles


class Portable(nn.Module):
    """A generator that can be traced once and then takes pictures of any size.

    content (1, 3, H, W) in [0, 1] and style (1, 2, T), as `Style.flat` gives it, to (1, 3, H, W) in [0, 1].

    `Generator.forward` decides by the picture's size whether to pad it, and a tracer keeps the one decision it
    has seen. So the picture is padded here, without a decision, and the generator finds nothing left to pad.
    As in `stylenorm.Stylizer.stylize`, a stride more is painted above and to the left, and cut off, of a picture that is larger,
    and plain ground gets grain, unless ``grain`` says no.

    A tracer also keeps the device of each tensor that is made on the way, so that none is made on a device by name.
    """

    def __init__(self, generator: Generator, grain: bool = True) -> None:
        super().__init__()
        self.grain = TracedGrain() if grain else None
        self.generator = copy.deepcopy(generator)
        weight, bias = (nn.Parameter(t.detach(), requires_grad=False) for t in generator.out.folded())
        self.generator.out = nn.Conv2d(weight.shape[1], len(weight), 3)
        self.generator.out.weight, self.generator.out.bias = weight, bias

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        height, width = content.shape[-2:]
        stride = self.generator.config.stride
        margin = _least(_most(_least(height, width) - stride, 0), 1) * stride  # `stylenorm.plain.margin_of`
        x = content if self.grain is None else self.grain(content, margin)
        x = preceded(preceded(x, -2, margin), -1, margin)
        x = mirrored(mirrored(x, -2, stride), -1, stride)
        pairs = Style.from_flat(style, self.generator.config.channels)
        y = self.generator(x, tuple(pairs))
        return y.index_select(-2, counted(y, height) + margin).index_select(-1, counted(y, width) + margin)


def preceded(x: Tensor, axis: int, margin: int) -> Tensor:
    """``margin`` more rows or columns before ``x``, mirrored as `numpy.pad`'s "symmetric" does it, in arithmetic alone."""
    length = x.shape[axis]
    period = 2 * length
    index = (counted(x, length + margin) - margin) % _as_tensor(period)
    return x.index_select(axis, torch.minimum(index, period - 1 - index))


def mirrored(x: Tensor, axis: int, stride: int) -> Tensor:
    """`stylenorm.generator.pad_to` along one axis, in arithmetic alone."""
    length = x.shape[axis]
    target = _most((length + stride - 1) // stride, 2) * stride
    period = _most(2 * (length - 1), 1)
    index = counted(x, target) % _as_tensor(period)
    return x.index_select(axis, torch.minimum(index, period - index))


def _as_tensor(number) -> Tensor:
    return number if isinstance(number, Tensor) else torch.scalar_tensor(number, dtype=torch.int64)


def _most(length, least: int):
    """The larger one. A length is a tensor to `torch.jit.trace`, a symbol to `torch.export`, a number elsewhere."""
    return length.clamp(min=least) if isinstance(length, Tensor) else torch.sym_max(length, least)


def _least(length, most):
    """The smaller one."""
    if isinstance(length, Tensor):  # and ``most`` one as well, or a number
        return torch.minimum(length, most) if isinstance(most, Tensor) else length.clamp(max=most)
    return torch.sym_min(length, most)


@usual_defaults()
def export_files(format: str, target: Path, weights: Path | None, about: Mapping[str, object], grain: bool = True) -> dict:
    """Write the network to ``target`` and the named styles beside it, and say what was written.

    format: "onnx", "torchscript" or "torch-export". The result is read back and compared with the original at
    sizes that it was not traced at; one that differs by more than 1e-4 is not written. grain: see `Portable`.
    """
    beside = target.with_name(f"{target.name}.styles.npz")  # its own: an x.onnx and an x.pt may be of different networks
    for file in (target, beside):
        if file.is_dir():
            raise StylenormError(f"{file} cannot be written (it is a folder); try another place")
        if is_read_only(file):
            raise StylenormError(f"{file} may not be written; change the permissions or the place")
    file = network_file(weights)
    network = load_network(file)
    found = [load_style(entry.file, network.hash) for entry in style_entries(weights)]
    styles = {style.name: style.flat().numpy() for style in found}
    portable = Portable(network.generator.requires_grad_(False), grain).eval()
    about = {
        **about,
        **origin(file, network.about),
        "network": network.hash,
        "config": network.generator.config.to_dict(),
        "channels": sum(network.generator.config.channels),
        "styles": list(styles),
        "paintings": {style.name: {k: style.provenance[k] for k in OF_PAINTINGS if k in style.provenance} for style in found},
        "grain": grain,
        "inputs": "content (1, 3, H, W) float32 in [0, 1]; style (1, 2, channels): gamma, then beta",
    }
    with quiet():
        data = WRITERS[format](portable, {k: v if isinstance(v, str) else json.dumps(v) for k, v in about.items()})
        difference = largest_difference(portable, READERS[format](data), next(iter(styles.values()), None))
    if difference is not None and not difference <= TOLERANCE:
        raise StylenormError(f"{target} was not written: it would differ from the original by {difference:.1e}; try another format")
    for file, content in ((beside, savez(styles)), (target, data)):
        try:
            write_whole(file, content)
        except OSError as error:
            raise StylenormError(f"{file} cannot be written ({error.strerror}); try another place") from None
    return {
        "file": str(target), "format": format, "bytes": len(data), "network": network.hash,
        "styles": str(beside), "count": len(styles), "difference": difference,
    }  # fmt: skip


def origin(file: Path, about: Mapping[str, object]) -> dict[str, object]:
    """Where the network in ``file`` comes from, and under which licence it is, as far as that is known."""
    if shipped_folder().resolve() in file.resolve().parents:
        return {"source": "trained by the stylenorm authors, comes with stylenorm", "licence": "MIT"}
    return {"source": file.name} | {k: about[k] for k in ("source", "licence") if k in about}


def largest_difference(portable: Portable, run: Callable | None, style: np.ndarray | None) -> float | None:
    """Between ``portable`` and what was made of it, over two sizes; None if nothing here can run that."""
    if run is None:
        return None
    channels, stride = portable.generator.config.channels, portable.generator.config.stride
    flat = torch.ones(1, 2, sum(channels)) if style is None else torch.from_numpy(style)
    worst = 0.0
    for height, width in ((5 * stride + 3, 4 * stride - 5), (3 * stride, 7 * stride)):
        content = _example(height, width)
        with torch.inference_mode():
            wanted = portable(content, flat)
            worst = max(worst, float((run(content, flat) - wanted).abs().max()))
    return worst


def _example(height: int, width: int) -> Tensor:
    """Waves with some noise, in 8 bits, and a corner of one colour: (1, 3, height, width) in [0, 1]."""
    y, x = torch.linspace(0, 7, height)[:, None], torch.linspace(0, 9, width)
    waves = torch.stack([torch.sin(x * (k + 1) + y * (3 - k)) for k in range(3)])
    noise = torch.rand(waves.shape, generator=torch.Generator().manual_seed(0))
    x = (0.5 + 0.35 * waves + 0.15 * (noise - 0.5))[None]
    x[..., : height // 2, : width // 2] = x[..., :1, :1]
    return torch.round(x * 255) / 255


def _examples(portable: Portable) -> tuple[Tensor, Tensor]:
    """What to trace with: no length is a multiple of the stride, and none equals another."""
    stride, total = portable.generator.config.stride, sum(portable.generator.config.channels)
    return _example(4 * stride + 3, 5 * stride + 5), torch.ones(1, 2, total)


def write_torchscript(portable: Portable, about: Mapping[str, str]) -> bytes:
    program = torch.jit.trace(portable, _examples(portable), check_trace=False)
    torch.jit.save(program, buffer := io.BytesIO(), _extra_files={"stylenorm.json": json.dumps(dict(about)).encode()})
    return buffer.getvalue()


def write_torch_export(portable: Portable, about: Mapping[str, str]) -> bytes:
    torch.export.save(_program(portable), buffer := io.BytesIO(), extra_files={"stylenorm.json": json.dumps(dict(about))})
    return buffer.getvalue()


def write_onnx(portable: Portable, about: Mapping[str, str]) -> bytes:
    names = {"input_names": ["content", "style"], "output_names": ["painting"]}
    lengths = {2: "height", 3: "width"}  # what a program calls them is lost on the way
    model = torch.onnx.export(_program(portable), dynamo=True, verbose=False, dynamic_shapes=(lengths, None), **names).model_proto
    model.doc_string = f"Paints a photograph by the gamma and beta of a style; made with stylenorm {about.get('stylenorm', '')}".rstrip()
    for key, value in about.items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def _program(portable: Portable) -> torch.export.ExportedProgram:
    lengths = {2: torch.export.Dim("height", min=2), 3: torch.export.Dim("width", min=2)}
    return torch.export.export(portable, _examples(portable), dynamic_shapes=(lengths, None))


def run_torchscript(data: bytes) -> Callable:
    return torch.jit.load(io.BytesIO(data))


def run_torch_export(data: bytes) -> Callable:
    return torch.export.load(io.BytesIO(data)).module()


def run_onnx(data: bytes) -> Callable | None:
    try:
        runtime = onnxruntime()
    except ImportError:
        return None
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda *inputs: torch.from_numpy(session.run(None, dict(zip(("content", "style"), (t.numpy() for t in inputs))))[0])


def savez(arrays: Mapping[str, np.ndarray]) -> bytes:
    """What `np.savez` writes, which cannot be told of an array that is called ``file``."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


WRITERS = {"onnx": write_onnx, "torchscript": write_torchscript, "torch-export": write_torch_export}
READERS = {"onnx": run_onnx, "torchscript": run_torchscript, "torch-export": run_torch_export}


@contextlib.contextmanager
def quiet():
    """Tracers warn of decisions by size, which are `Portable`'s business, and of their own old age."""
    level = logging.getLogger("torch").level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch").setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.getLogger("torch").setLevel(level)
