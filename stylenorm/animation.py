"""Animated GIF, WebP and PNG: every frame painted, with the timing that it had.

The file is read twice, a frame at a time: once to survey it (moments of all frames, a palette for GIF, timing) and
once to paint it. What a frame hides or leaves standing of the one before is composed first, so that the network
sees what people see. What paints is handed in; no torch is imported here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import GifImagePlugin, Image, ImageChops

from stylenorm.composing import composed, parts_of
from stylenorm.decode import rgba_of
from stylenorm.drafts import draft_of
from stylenorm.encode import save_options
from stylenorm.errors import ImageError
from stylenorm.formats import ANIMATABLE
from stylenorm.images import Picture, opened, read_picture, rewrap
from stylenorm.people import nobody_in

Notice = Callable[[str], None]
MOVING = {"GIF", "WEBP", "PNG", "AVIF"}  # in which several pictures are frames, and not pages, previews or views
PUT_TOGETHER = {"GIF", "PNG"}  # here, and not by Pillow
CLEAR = 255  # index of the transparent colour in a GIF; the others are colours
LONGEST_SIDE = {"gif": 65535, "webp": 16383}  # px
LONGEST_FRAME = 655_350  # ms, of a GIF
MOST_LOOPS = 65535  # that a GIF or a WebP counts
SAMPLE = 64  # px, side of what each frame gives to the palette
MOST_IN_MEMORY = 2_000_000_000  # bytes of frames, for PNG, whose writer holds them all
BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16 - 15 / 32  # -0.47 to 0.47


@dataclass
class Survey:
    """What the first reading finds. durations: ms a frame, and parts of one. plays: how often it runs, 0 for without end."""

    durations: list[float] = field(default_factory=list)
    plays: int = 0
    clear: bool = False
    samples: list[Image.Image] = field(default_factory=list)


def frame_count(source) -> int:
    """Frames of a picture file; 1 for a still and for anything that is no picture. Of a damaged one those up to the damage, which reading tells."""
    try:
        with opened(source) as image:
            try:
                return len(_shown(image))
            except Exception:  # whatever a decoder raises: those of a GIF are gone through to count them
                return image.tell() + 2
    except ImageError:
        return 1


def frames(source, name: str | None = None) -> Iterator[tuple[Picture, float, int]]:
    """(frame as it is seen, ms that it stands, times that the animation plays), in their order. name: for messages."""
    name = name or str(source)
    if not _can_move(source):
        yield read_picture(source, name=name), 0, 1
        return
    with opened(source, name) as image:
        if image.format in PUT_TOGETHER and image.is_animated:
            yield from _composed(image, name)
            return
        for index in _shown(image):
            image.seek(index)
            image.load()
            yield read_picture(image, name=name), image.info.get("duration", 0), _plays(image)


def _composed(image: Image.Image, name: str) -> Iterator[tuple[Picture, float, int]]:
    told = {key: value for key, value in image.info.items() if key != "transparency"}  # that of a part
    for frame, duration in composed(parts_of(image.format, image.fp), image.size, lambda still: rgba_of(still, name)):
        frame.info, frame.format = told, image.format
        yield read_picture(frame, name=name), duration, _plays(image)


def _can_move(source) -> bool:
    with suppress(ImageError):  # a TIFF that Pillow has no mode for, or what reading it will tell
        with opened(source) as image:
            return image.format in MOVING
    return False


def paint_animation(
    source: Path,
    target: Path,
    begin: Callable,
    format: str | None = None,
    quality: int = 95,
    strip: bool = False,
    notice: Notice | None = None,
    each: Callable[[], Iterator[dict]] = partial(repeat, {}),
) -> Image.Image:
    """`write_animation` into the file ``target``, whole or not at all. format: else what the suffix says."""
    format = format or ANIMATABLE[target.suffix.lower()]
    try:
        with draft_of(target) as draft, open(draft, "wb") as file:
            return write_animation(source, file, begin, format, quality, strip, notice=notice, each=each)
    except OSError as error:
        raise ImageError(f"{target} cannot be written ({error.strerror or error}); try another place") from None


def write_animation(
    source: Path | bytes,
    file: BinaryIO,
    begin: Callable,
    format: str,
    quality: int = 95,
    strip: bool = False,
    name: str | None = None,
    notice: Notice | None = None,
    each: Callable[[], Iterator[dict]] = partial(repeat, {}),
) -> Image.Image:
    """Paint every frame of ``source`` into the open ``file``, and return the first of them.

    begin: called with None and then with the pooled moments; gives a `stylenorm.steady.Stream`. format: "gif",
    "webp" or "png". quality: of WebP. strip: without EXIF and XMP. name: of the source, for messages, by default its path.
    notice: called with a sentence where people were looked for in vain. each: gives what the stream takes with each frame, from the first on.
    """
    name = name or str(source)
    survey, stream, given = Survey(), begin(None), each()
    for picture, duration, survey.plays in frames(source, name):
        painted = stream.survey(picture.rgb, **next(given))
        if max(painted.size) > (most := LONGEST_SIDE.get(format, math.inf)):
            raise ImageError(f"{name}: an animated {format} holds at most {most} pixels a side; make it smaller")
        survey.durations.append(duration)
        survey.clear |= picture.alpha is not None
        if format == "gif":
            survey.samples.append(painted.resize((SAMPLE, SAMPLE), Image.Resampling.NEAREST))
            if len(survey.samples) > 256:  # as good as all of them, and it ends somewhere
                survey.samples = survey.samples[::2]
    if format == "png" and painted.width * painted.height * 4 * len(survey.durations) > MOST_IN_MEMORY:
        raise ImageError(f"{name}: so long an animation is too large for PNG; write a .webp or .gif")
    stream, given = begin(stream.pooled()), each()

    def paintings() -> Iterator[Image.Image]:
        for picture, *_ in frames(source, name):
            picture = replace(picture, icc=None) if format == "gif" else picture  # a GIF has no profile
            yield rewrap(picture, stream(picture.rgb, **next(given)), strip=strip)

    first = WRITERS[format](file, paintings(), survey, quality)
    for line in nobody_in(name, stream.steady.somebody) if notice else ():
        notice(line)
    return first


def _shown(image: Image.Image) -> range:
    """Which of a file's pictures are frames; a PNG's own picture may not be part of its animation."""
    if image.format not in MOVING:
        return range(1)
    return range(int(getattr(image, "default_image", False)), getattr(image, "n_frames", 1))


def _plays(image: Image.Image) -> int:
    """How often an animation runs. A GIF counts the runs after the first one, the others count all; 0 is without end."""
    loop = image.info.get("loop")
    if image.format != "GIF":
        return loop or 0
    return 1 if loop is None else loop + 1 if loop else 0


# ---- GIF ---------------------------------------------------------------------------------------


def write_gif(file: BinaryIO, paintings: Iterator[Image.Image], survey: Survey, quality: int) -> Image.Image:
    """One palette for all frames, and an ordered dither: error diffusion would make still regions crawl.

    Pillow's own writer would hold all frames, so its parts are used one by one.
    """
    palette, spread = shared_palette(survey.samples)
    first = before = None
    loop = None if survey.plays == 1 else min(max(0, survey.plays - 1), MOST_LOOPS)
    for painted, duration in zip(paintings, hundredths(survey.durations)):
        frame = indexed(painted, palette, spread)
        if first is None:
            first = painted
            file.writelines(GifImagePlugin.getheader(frame.copy(), info={"loop": loop, "optimize": False, "duration": 10})[0])
        part, offset = (frame, (0, 0)) if survey.clear else changed(frame, before)
        before = frame
        options = {"transparency": CLEAR, "disposal": 2} if survey.clear else {"transparency": CLEAR, "disposal": 1}
        file.writelines(GifImagePlugin.getdata(part, offset, duration=duration, **options))
    file.write(b";")
    return first


def shared_palette(samples: list[Image.Image]) -> tuple[Image.Image, float]:
    """A "P" image with 255 colours that the samples, and so the frames, are best shown in, and how far to dither.

    That is twice what the nearest colour is off by, in levels of 255: as much as it takes to reach the next one.
    """
    mosaic = Image.new("RGB", (SAMPLE, SAMPLE * len(samples)))
    for i, sample in enumerate(samples):
        mosaic.paste(sample, (0, i * SAMPLE))
    nearest = mosaic.quantize(CLEAR, Image.Quantize.MEDIANCUT, kmeans=1)
    off = np.asarray(nearest.convert("RGB"), np.float32) - np.asarray(mosaic, np.float32)
    found = nearest.getpalette()[: 3 * CLEAR]
    palette = Image.new("P", (1, 1))
    palette.putpalette(found + found[-3:] * (256 - len(found) // 3))
    return palette, 2 * float(np.abs(off).mean())


def indexed(painted: Image.Image, palette: Image.Image, spread: float) -> Image.Image:
    """An "RGB" or "RGBA" frame in the palette's colours; `CLEAR` where it is more clear than not."""
    pixels = np.asarray(painted.convert("RGB"), np.float32)
    height, width = pixels.shape[:2]
    grid = np.tile(BAYER, (-(-height // 4), -(-width // 4)))[:height, :width, None]
    dithered = np.clip(pixels + spread * grid + 0.5, 0, 255).astype(np.uint8)
    index = np.array(Image.fromarray(dithered).quantize(palette=palette, dither=Image.Dither.NONE))
    index[index == CLEAR] = CLEAR - 1
    if painted.mode == "RGBA":
        index[np.asarray(painted.getchannel("A")) < 128] = CLEAR
    return _in_palette(index, palette)


def changed(frame: Image.Image, before: Image.Image | None) -> tuple[Image.Image, tuple[int, int]]:
    """The part of a frame that differs from the one before, and where it lies; clear where it does not differ."""
    if before is None:
        return frame, (0, 0)
    box = ImageChops.difference(*(Image.frombytes("L", p.size, p.tobytes()) for p in (frame, before))).getbbox() or (0, 0, 1, 1)
    part = np.array(frame.crop(box))
    part[part == np.array(before.crop(box))] = CLEAR
    return _in_palette(part, frame), box[:2]


def _in_palette(index: np.ndarray, palette: Image.Image) -> Image.Image:
    image = Image.frombytes("P", index.shape[::-1], index.tobytes())
    image.putpalette(palette.getpalette())
    return image


def hundredths(durations: list[float]) -> Iterator[int]:
    """Durations in whole hundredths of a second, as a GIF counts, in ms."""
    return (10 * step for step in whole((min(d, LONGEST_FRAME) / 10 for d in durations), LONGEST_FRAME // 10))


def whole(durations: Iterable[float], most: float = math.inf) -> Iterator[int]:
    """In whole numbers up to ``most``; what rounding takes from one the next one gets."""
    true = told = 0
    for duration in durations:
        true += duration
        yield (step := min(most, max(0, round(true - told))))
        told += step


def in_fractions(duration: float) -> float:
    """A duration in ms as a PNG can tell it, of at most 65,535 parts of a second."""
    seconds = min(duration / 1000, 65535)
    return 1000 * float(Fraction(seconds).limit_denominator(int(65535 / max(1, seconds))))


# ---- WebP and PNG ------------------------------------------------------------------------------


class Film(Image.Image):
    """An image of many frames that come into being as Pillow's writer of WebP asks for them, and go again."""

    def __init__(self, images: Iterator[Image.Image], count: int) -> None:
        super().__init__()
        self._images, self._at, self.n_frames = images, -1, count
        self.seek(0)

    def seek(self, frame: int) -> None:
        if frame == self._at + 1:
            image = next(self._images)
            self.im, self._mode, self._size, self._at = image.im, image.mode, image.size, frame

    def tell(self) -> int:
        return self._at


def write_webp(file: BinaryIO, paintings: Iterator[Image.Image], survey: Survey, quality: int) -> Image.Image:
    first = next(paintings)
    film = Film(chain([first], paintings), len(survey.durations))
    options = save_options(first.info, "webp", quality)
    if "exif" in options:  # in a WebP it begins with the byte order; of stills Pillow takes care
        options["exif"] = options["exif"].removeprefix(b"Exif\0\0")
    film.save(file, "WEBP", save_all=True, duration=list(whole(survey.durations)), loop=min(survey.plays, MOST_LOOPS), **options)
    return first


def write_png(file: BinaryIO, paintings: Iterator[Image.Image], survey: Survey, quality: int) -> Image.Image:
    frames: list[Image.Image] = []
    times: list[float] = []
    for painting, duration in zip((p.convert("RGBA" if survey.clear else "RGB") for p in paintings), survey.durations):
        if frames and painting.tobytes() == frames[-1].tobytes():  # Pillow puts these together as well, with a sum that it may not be able to write
            times[-1] += duration
        else:
            frames.append(painting)
            times.append(duration)
    first, *more = frames
    options = {"duration": list(map(in_fractions, times)), "loop": survey.plays, "disposal": 0, "blend": 0}
    first.save(file, "PNG", save_all=True, append_images=more, **options, **save_options(first.info, "png", quality))
    return first


def write_masks(target: Path, masks: Iterable[Image.Image], survey: Survey) -> Image.Image:
    """An animated PNG with a frame for each of the masks, which are "L", also where some are alike; returns the first. survey: known when they are through."""
    held = []
    for mask in masks:
        held.append(mask)
        if mask.width * mask.height * len(held) > MOST_IN_MEMORY:
            raise ImageError(f"{target}: the masks of so long an animation are too large for PNG; --mask people finds them as it is painted")
    blend = [n % 2 for n in range(len(held))]  # where nothing is clear both mean the same, and Pillow puts together what is alike in this too
    options = {"duration": list(map(in_fractions, survey.durations)), "loop": survey.plays, "disposal": 0, "blend": blend}
    try:
        with draft_of(target) as draft, open(draft, "wb") as file:
            held[0].save(file, "PNG", save_all=True, append_images=held[1:], **options)
    except OSError as error:
        raise ImageError(f"{target} cannot be written ({error.strerror or error}); try another place") from None
    return held[0]


WRITERS = {"gif": write_gif, "webp": write_webp, "png": write_png}
