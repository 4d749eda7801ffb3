"""Walks as files: GIF, WebP and MP4. No torch."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from PIL import Image

from stylenorm.drafts import write_whole
from stylenorm.errors import ImageError, StylenormError

LONGEST_SIDE = {".gif": 65535, ".webp": 16383, ".mp4": 16384}  # px, that the format or its encoder takes
MOVING = tuple(LONGEST_SIDE)


def check_walk(path: Path, size: tuple[int, int]) -> None:
    """What can be refused before the first frame is painted."""
    suffix = path.suffix.lower()
    if suffix not in MOVING:
        raise StylenormError(f"{path} does not end in a format for walks ({', '.join(MOVING)}); add one")
    if suffix == ".mp4" and find_spec("av") is None:
        raise StylenormError('MP4 takes PyAV; pip install "stylenorm[video]", or write a .webp or .gif')
    if max(size) > LONGEST_SIDE[suffix]:
        raise ImageError(f"a walk in {suffix} holds at most {LONGEST_SIDE[suffix]} pixels a side; give a smaller --size")
    if suffix == ".mp4" and (size[0] % 2 or size[1] % 2):
        raise ImageError(f"an MP4 has even sides, not {size[0]} x {size[1]}")


def write_walk(path: Path, frames: Iterable[Image.Image], fps: float = 20, quality: int = 90) -> None:
    """Write frames of one size. The file appears whole, or not at all."""
    WRITERS[path.suffix.lower()](data := BytesIO(), iter(frames), fps, quality)
    try:
        write_whole(path, data.getvalue())
    except OSError as error:
        raise ImageError(f"{path} cannot be written ({error.strerror or error}); try another place") from None


def _write_webp(file: BytesIO, frames, fps: float, quality: int) -> None:
    first = next(frames)
    first.save(file, "WEBP", save_all=True, append_images=frames, duration=round(1000 / fps), loop=0, quality=quality, method=3)


def _write_gif(file: BytesIO, frames, fps: float, quality: int) -> None:
    """One palette for all: with one for each frame, colours that stand still would flicker."""
    found = list(frames)
    few = [frame.resize((96, 96)) for frame in found[:: max(1, len(found) // 16)]]
    mosaic = Image.new("RGB", (96, 96 * len(few)))
    for i, frame in enumerate(few):
        mosaic.paste(frame, (0, 96 * i))
    palette = mosaic.quantize(256, Image.Quantize.MEDIANCUT, kmeans=1)
    indexed = [frame.quantize(palette=palette) for frame in found]
    duration = 10 * max(2, round(100 / fps))  # a GIF counts hundredths, and one of them is played as ten
    indexed[0].save(file, "GIF", save_all=True, append_images=indexed[1:], duration=duration, loop=0)


def _write_mp4(file: BytesIO, frames, fps: float, quality: int) -> None:
    import av

    with av.open(file, "w", format="mp4") as container:
        stream = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
                stream.width, stream.height, stream.pix_fmt = *frame.size, "yuv420p"
                stream.options = {"crf": str(round(51 - 0.4 * quality))}
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


WRITERS = {".gif": _write_gif, ".webp": _write_webp, ".mp4": _write_mp4}
