"""Walks as files: GIF, WebP and MP4. No torch before one is written.

A walk may have thousands of frames. They are written as they come, and those that are wanted twice wait on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from stylenorm.drafts import draft_of
from stylenorm.errors import ImageError, StylenormError, how_to_install

LONGEST_SIDE = {".gif": 65535, ".webp": 16383, ".mp4": 16384}  # px, that the format or its encoder takes
MOVING = tuple(LONGEST_SIDE)
BT709, BT601 = 1, 5  # FFmpeg's numbers of matrices


def check_walk(path: Path, size: tuple[int, int]) -> None:
    """What can be refused before the first frame is painted."""
    suffix = path.suffix.lower()
    if suffix not in MOVING:
        raise StylenormError(f"{path} does not end in a format for walks ({', '.join(MOVING)}); add one")
    if suffix == ".mp4" and find_spec("av") is None:
        raise StylenormError(f"MP4 takes PyAV: {how_to_install('video')}; or write a .webp or .gif")
    if max(size) > LONGEST_SIDE[suffix]:
        raise ImageError(f"a walk in {suffix} holds at most {LONGEST_SIDE[suffix]} pixels a side; give a smaller --size")
    if suffix == ".mp4" and (size[0] % 2 or size[1] % 2):
        raise ImageError(f"an MP4 has even sides, not {size[0]} x {size[1]}")


def write_walk(
    path: Path, frames: Iterable[Image.Image], count: int, fps: float = 20, quality: int = 90, back: bool = False
) -> None:
    """Write ``count`` frames of one size, and with ``back`` the way back to the first. The file appears whole, or not at all."""
    frames, count = (there_and_back(frames), 2 * count - 2) if back else (iter(frames), count)
    try:
        with draft_of(path) as draft, open(draft, "wb") as file:
            WRITERS[path.suffix.lower()](file, frames, count, fps, quality)
    except OSError as error:
        raise ImageError(f"{path} cannot be written ({error.strerror or error}); try another place") from None


def there_and_back(frames: Iterable[Image.Image]) -> Iterator[Image.Image]:
    """The frames, then all between the last and the first of them again, backwards."""
    from stylenorm.spill import Frames

    with Frames() as kept:
        for frame in frames:
            kept.add(frame)
            yield frame
        for number in range(len(kept) - 2, 0, -1):
            yield kept[number]


def _write_webp(file: BinaryIO, frames: Iterator[Image.Image], count: int, fps: float, quality: int) -> None:
    from stylenorm.animation import Film

    Film(frames, count).save(file, "WEBP", save_all=True, duration=1000 / fps, loop=0, quality=quality, method=3)


def _write_gif(file: BinaryIO, frames: Iterator[Image.Image], count: int, fps: float, quality: int) -> None:
    """One palette for all: with one for each frame, colours that stand still would flicker."""
    from stylenorm.animation import SAMPLE, Survey, write_gif
    from stylenorm.spill import Frames

    duration = max(20.0, 1000 / fps)  # a GIF counts hundredths, and one of them is played as ten
    survey, every = Survey([duration] * count), -(-count // 256)
    with Frames() as kept:
        for number, frame in enumerate(frames):
            kept.add(frame)
            if number % every == 0:
                survey.samples.append(frame.resize((SAMPLE, SAMPLE), Image.Resampling.NEAREST))
        write_gif(file, iter(kept), survey, quality)


def _write_mp4(file: BinaryIO, frames: Iterator[Image.Image], count: int, fps: float, quality: int) -> None:
    import av

    with av.open(file, "w", format="mp4") as container:
        stream = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
                stream.width, stream.height, stream.pix_fmt = *frame.size, "yuv420p"
                stream.options = {"crf": str(round(51 - 0.4 * quality))}
                matrix = BT709 if frame.height >= 720 else BT601  # which players take it for, untold
                tags = {"color_range": 1, "colorspace": matrix, "color_primaries": 1, "color_trc": 1}
                for name, value in tags.items():
                    setattr(stream.codec_context, name, value)
            picture = av.VideoFrame.from_image(frame).reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=1)
            for name, value in tags.items():
                setattr(picture, name, value)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


WRITERS = {".gif": _write_gif, ".webp": _write_webp, ".mp4": _write_mp4}
