"""What runs a generator: torch anywhere, or OpenVINO, which is several times quicker on a CPU."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from stylenorm.device import gpu_bfloat16, in_turn, memory_format, turn
from stylenorm.errors import StylenormError
from stylenorm.functional import moments
from stylenorm.generator import Generator
from stylenorm.graph import FLOAT32_BYTES, PRECISIONS, CompiledGraph, GraphBackend, Ranges
from stylenorm.style import Style


class Backend(Protocol):
    """Something that paints. ``name`` is for people; ``bytes_per_pixel`` of a picture is the memory that it takes at most."""

    name: str
    bytes_per_pixel: int

    def __call__(self, picture: np.ndarray, style: Style) -> np.ndarray:
        """uint8 (H, W, 3) to uint8 (H, W, 3), or uint16 to uint16, which takes `FLOAT32_BYTES` a pixel."""

    def steered(
        self, picture: np.ndarray, style: Style, given: np.ndarray, share: float, fine: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same, stripping ``share`` of the picture's own moments and 1 - ``share`` of the ``given`` ones.

        given: (2, T) float32, mean and variance of all T channels in the generator's order. Returns the painting
        and the picture's own moments, alike, as each normalization met them. fine: not in 8 bits, for a picture whose moments
        may be far below the given ones, which leave little of a step.
        """

    def pooled(self, pictures: np.ndarray, style: Style, given: np.ndarray, share: float) -> np.ndarray:
        """What `steered` strips, (2, T), where the moments are those of several pictures (N, H, W, 3) together.

        Each normalization meets what those before it have made with common moments. So all of them fit together, and
        a picture can be painted by them alone.
        """


class TorchBackend:
    """The generator as it is. bfloat16 on CUDA for pictures of 8 bits; float32 elsewhere."""

    bytes_per_pixel = FLOAT32_BYTES
    pixels_together = 1_048_576  # in one pass of several small pictures, which gains with torch: see BENCHMARKS.md

    def __init__(self, generator: Generator, device: torch.device) -> None:
        self.device = device
        with turn(device):
            self.generator = generator.to(device, memory_format=memory_format(device))
        self.half = gpu_bfloat16(device)
        self.name = f"torch on {device}, {'bfloat16' if self.half else 'float32'}"

    def __call__(self, picture: np.ndarray, style: Style) -> np.ndarray:
        return self._paint(picture[None], style, None)[0]

    def together(self, pictures: np.ndarray, style: Style) -> np.ndarray:
        """(N, H, W, 3) to the same: pictures of one size in one pass."""
        return self._paint(pictures, style, None)

    @in_turn
    def steered(
        self, picture: np.ndarray, style: Style, given: np.ndarray, share: float, fine: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        config, own = self.generator.config, []
        given = torch.tensor(given, device=self.device).split(list(config.channels), 1)

        def mixed(index: int, x: Tensor) -> tuple[Tensor, Tensor]:
            own.append(torch.stack([m.expand(1, x.shape[1], 1, 1).flatten() for m in moments(x, config.norm, config.num_groups)]))
            return tuple(torch.lerp(given[index], own[index], share)[:, None, :, None, None])

        steer = None if config.norm == "batch" else mixed  # its moments are the same for every picture
        painted = self._paint(picture[None], style, steer)[0]
        return painted, torch.cat(own or list(given), 1).cpu().numpy()

    @in_turn
    def pooled(self, pictures: np.ndarray, style: Style, given: np.ndarray, share: float) -> np.ndarray:
        config, stripped = self.generator.config, []
        given = torch.tensor(given, device=self.device).split(list(config.channels), 1)

        def together(index: int, x: Tensor) -> tuple[Tensor, Tensor]:
            mean, var = moments(x, config.norm, config.num_groups)
            var = var.mean(0) + mean.var(0, correction=0)  # within the pictures and between them
            own = torch.stack([m.expand(x.shape[1], 1, 1).flatten() for m in (mean.mean(0), var)])
            stripped.append(torch.lerp(given[index], own, share))
            return tuple(stripped[-1][:, None, :, None, None])

        if config.norm != "batch":
            self._paint(pictures, style, together)
        return torch.cat(stripped or list(given), 1).cpu().numpy()

    @in_turn
    @torch.inference_mode()
    def _paint(self, pictures: np.ndarray, style: Style, steer) -> np.ndarray:
        white = np.iinfo(pictures.dtype).max
        pixels = np.array(pictures, np.uint8 if white == 255 else np.int32)  # no device computes in uint16
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).contiguous(memory_format=memory_format(self.device))  # N, 3, H, W
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half and white == 255):
            y = self.generator(x.float() / white, style.to(self.device), steer)
        y = (y.float() * white + 0.5).clamp(0, white).to(torch.uint8 if white == 255 else torch.int32)
        return y.permute(0, 2, 3, 1).contiguous().cpu().numpy().astype(pictures.dtype, copy=False)


class OpenVINOBackend(GraphBackend):
    """`stylenorm.graph.CompiledGraph` of the generator. A style with regions, which has a γ and β for each position, goes
    through torch."""

    pixels_together = 0  # one after another is as quick

    def __init__(
        self, generator: Generator, threads: int | None = None, precision: str = "auto", ranges: Ranges | None = None
    ) -> None:
        self.regional = TorchBackend(generator, torch.device("cpu"))
        weights = {k: v.detach().numpy() for k, v in generator.state_dict().items()}
        super().__init__(CompiledGraph(generator.config, weights, threads, precision, ranges))

    def __call__(self, picture: np.ndarray, style: Style) -> np.ndarray:
        return self.regional(picture, style) if style.has_regions else super().__call__(picture, style)

    def steered(
        self, picture: np.ndarray, style: Style, given: np.ndarray, share: float, fine: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        return (self.regional if style.has_regions else super()).steered(picture, style, given, share, fine)

    def pooled(self, pictures: np.ndarray, style: Style, given: np.ndarray, share: float) -> np.ndarray:
        return (self.regional if style.has_regions else super()).pooled(pictures, style, given, share)


def choose_backend(name: str, generator: Generator, device: torch.device, ranges: Ranges | None = None) -> Backend:
    """"auto" is OpenVINO on a CPU where it is installed, else torch. ranges: see `stylenorm.graph.CompiledGraph`."""
    if name not in (*PRECISIONS, "torch"):
        raise StylenormError(f"no backend {name!r}; choose auto, torch, openvino or openvino-int8")
    if name not in ("auto", "torch") and device.type != "cpu":
        raise StylenormError(f"the {name} backend computes on the cpu, not on {device}; use --backend torch there")
    if name == "torch" or device.type != "cpu":
        return TorchBackend(generator, device)
    try:
        return OpenVINOBackend(generator, precision=PRECISIONS[name], ranges=ranges)
    except ImportError:
        if name != "auto":
            raise StylenormError("openvino is not installed; pip install openvino, or use --backend torch") from None
        return TorchBackend(generator, device)
