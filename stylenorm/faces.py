"""Faces: where they are in a photograph, and their features brought back in its painting. No torch.

They are found by CenterFace (Xu et al. 2019, https://arxiv.org/abs/1911.03599), which OpenVINO runs on the CPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from stylenorm.bands import Pixels, size_of
from stylenorm.catalog import cache_folder, faces_file
from stylenorm.compat import openvino_core
from stylenorm.compiled import CompiledModel, has_bfloat16, made_once, precision
from stylenorm.errors import StyleError, WeightsError
from stylenorm.formats import FACES
from stylenorm.kept import Kept, state_of

PIXELS, SHARE = 512 * 384, 0.5  # at most, and of a smaller photograph's, of what is searched: faces down to some 10 px of that are found
STRIDE, CELL = 32, 4  # px: of the network, and between its places
SURE, LIKELY = 0.5, 0.35  # from which on something is a face, and a face of the frame before still one
SAME = 0.3  # of their union: what two boxes of one face share at least
MOST = 200  # faces
COARSE, LEAST = 0.12, 3.0  # of a face's width, and px: what is larger than that is the painting's
FINE = 4.0  # px that a blur is wide at least, counted in those of the copy that it is done in
EDGE = 0.18  # of a face: half the width of its soft edge
TURNED = 0.6  # rad, up to which the eyes tell how a head is tilted
APART = 0.25  # of a face's width: how far apart the eyes are in one that is not seen from the side
RISE, FALL = 0.25, 0.25  # a frame: how quickly a face's features come and go in a film
PULL, MOVED = 0.5, 0.15  # how much of the way a face is followed that hardly moves, so that it does not tremble; of its width, at which it is all
USUAL, MOST_GAIN, GLIMPSE = 40.0, 16.0, 128  # levels, the contrast up to which a photograph is a faint one; and px of the copy it is taken of
FARTHEST, LIKE = 1.0, 1.5  # of its width, how far a face may have gone, and by how much it may have grown or shrunk meanwhile


class Face(NamedTuple):
    """Its middle, width and height in px; tilt in rad, clockwise; sure: how much it is one, up to 1."""

    x: float
    y: float
    width: float
    height: float
    tilt: float = 0.0
    sure: float = 1.0


def find_faces(photo: Image.Image, sure: float = SURE) -> list[Face]:
    """The faces of an "RGB" photograph, of those that overlap the surest. None where OpenVINO or the network's file is missing.

    Raises `WeightsError` where that file is damaged.
    """
    detector = _detector()
    if detector is None:
        return []
    scale = min(SHARE, PIXELS / (photo.width * photo.height)) ** 0.5
    width, height = (max(STRIDE, round(scale * side / STRIDE) * STRIDE) for side in photo.size)
    seen = np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3), np.float32)
    heat, extent, offset, marks = detector(np.ascontiguousarray(seen.transpose(2, 0, 1))[None])
    row, column = np.nonzero(heat[0, 0] > sure)
    order = np.argsort(-heat[0, 0, row, column], kind="stable")[: 4 * MOST]
    row, column = row[order], column[order]
    tall, wide = CELL * np.exp(np.clip(extent[0, :, row, column], -4, 6)).T
    y, x = CELL * (np.stack([row, column]) + 0.5 + offset[0, :, row, column].T)
    right, down = photo.width / width, photo.height / height
    found: list[Face] = []
    for i in range(len(row)):
        points = marks[0, :, row[i], column[i]].reshape(5, 2) * (tall[i] * down, wide[i] * right)  # (y, x) from its upper left
        face = Face(*map(float, (x[i] * right, y[i] * down, wide[i] * right, tall[i] * down)), _tilt(points, wide[i] * right), float(heat[0, 0, row[i], column[i]]))
        if all(shared(face, other) <= SAME for other in found):
            found.append(face)
    return found[:MOST]


def faces_of(photo: Image.Image, larger: Image.Image, sure: float = SURE) -> list[Face]:
    """`find_faces` of ``photo``, looked for in what it is a copy of where it has few pixels, as where strokes are to be large."""
    if SHARE * photo.width * photo.height >= PIXELS:
        return find_faces(photo, sure)
    right, down = photo.width / larger.width, photo.height / larger.height
    found = find_faces(larger, sure)
    return [Face(f.x * right, f.y * down, f.width * right, f.height * down, f.tilt, f.sure) for f in found]


def finding(photo: Image.Image, larger: Image.Image) -> Callable[[], list[Face]]:
    """Begins `faces_of` in a thread. What it returns waits for the faces, and raises what that raised."""
    found: list[Face] = []
    error: list[BaseException] = []

    def find() -> None:
        try:
            found.extend(faces_of(photo, larger))
        except BaseException as raised:  # noqa: BLE001: raised again where somebody waits for it
            error.append(raised)

    thread = threading.Thread(target=find)
    thread.start()

    def result() -> list[Face]:
        thread.join()
        if error:
            raise error[0]
        return found

    return result


def with_features(painted: Pixels, photo: Pixels, faces: Sequence[Face], amount: float) -> Pixels:
    """``painted`` with the features of ``photo``, of the same size and kind, in its faces. amount: of 1.

        q = p + amount m ((g i - p) - G (g i - p))

    with p the painting, i the photograph, m an ellipse with a soft edge and G a blur of `COARSE` of the face's width: so colour and
    light are the painting's, and eyes, nose and mouth are the photograph's, in place of strokes across them. g is `gain_of` both.
    """
    if not amount or not faces:
        return painted
    result, gain = painted.copy(), gain_of(painted, photo)
    for face in faces:
        _bring_back(result, photo, face, amount, gain)
    return result


def gain_of(painted: Pixels, photo: Pixels) -> float:
    """By how much the contrast of a photograph, one by night or in fog, falls short of its painting's; 1 where it does not.

    Normalization gives a painting the same contrast whatever the photograph has. Features as faint as there would be none in it.
    """
    return min(MOST_GAIN, max(1.0, min(_contrast(painted), USUAL) / max(_contrast(photo), 1.0)))


def _contrast(picture: Pixels) -> float:
    """The deviation of light, in levels of 255, without what is fine: strokes, or noise."""
    if isinstance(picture, np.ndarray):
        step = max(1, max(picture.shape) // (4 * GLIMPSE))
        few = picture[::step, ::step]
        picture = Image.fromarray((few >> 8).astype(np.uint8) if few.dtype == np.uint16 else np.ascontiguousarray(few))
    width, height = picture.size
    scale = max(1.0, max(width, height) / GLIMPSE)
    size = max(1, round(width / scale)), max(1, round(height / scale))
    return float(np.asarray(picture.resize(size, Image.Resampling.BOX, reducing_gap=2).convert("L"), np.float32).std())


def _bring_back(painted: Pixels, photo: Pixels, face: Face, amount: float, gain: float) -> None:
    sigma = max(LEAST, COARSE * face.width)
    left, upper, right, lower = _around(face, sigma, size_of(painted))
    if left >= right or upper >= lower:
        return
    here, there = (_cut(p, (left, upper, right, lower)).astype(np.float32) for p in (photo, painted))
    apart = here if gain == 1 else here * np.float32(gain)
    apart = apart - there
    apart -= _blurred(apart, sigma)
    ellipse = _ellipse(face, left, upper, apart.shape[:2])[..., None]
    _put(painted, there + amount * ellipse * apart, left, upper)


class Followed:
    """The faces of a film, from frame to frame: they do not jump, and their features come and go over some frames."""

    def __init__(self, state: np.ndarray | None = None) -> None:
        """state: of another one, to go on from there."""
        rows = () if state is None else state.tolist()
        self.faces: list[tuple[Face, float]] = [(Face(*row[:-1]), row[-1]) for row in rows]  # with how much of the amount each has by now

    def __call__(self, photo: Image.Image, larger: Image.Image, painted: Image.Image, amount: float, cut: bool = False) -> Image.Image:
        """`with_features` of the next frame, a copy of ``larger``. cut: whether it is the first one, or of another scene."""
        found = faces_of(photo, larger, LIKELY)
        following: list[tuple[Face, float]] = []
        for before, level in () if cut else self.faces:
            now = min(found, key=lambda face: _apart(face, before), default=None)
            if now is not None and _apart(now, before) < FARTHEST and 1 / LIKE < now.width / before.width < LIKE:
                found.remove(now)
                pull = min(1.0, max(PULL, _apart(now, before) / MOVED))
                following.append((Face(*(b + pull * (n - b) for b, n in zip(before, now))), min(1.0, level + RISE)))
            elif level > FALL:
                following.append((before, level - FALL))
        following += [(face, 1.0 if cut else RISE) for face in found if face.sure > SURE]
        self.faces, result = following, painted.copy()
        gain = gain_of(painted, photo) if following else 1.0
        for face, level in following:
            _bring_back(result, photo, face, amount * level, gain)
        return result

    @property
    def state(self) -> np.ndarray:
        """(faces, 7)"""
        return np.array([(*face, level) for face, level in self.faces], np.float64).reshape(-1, 7)


def check_faces(amount: float | None) -> float:
    """``amount``, or the usual one for None, as a plain number, or a `StyleError`."""
    try:
        amount = FACES if amount is None else float(amount)
    except (TypeError, ValueError):
        raise StyleError(f"faces must be a number between 0 and 1, not {amount!r}") from None
    if not 0 <= amount <= 1:
        raise StyleError(f"faces must lie between 0 and 1, not {amount}")
    return amount


def prepare_faces() -> None:
    """Begin to make the detector ready: where an earlier process has left it, a thread takes it from there."""
    _detector()


@made_once
def _detector() -> CompiledModel | None:
    file = faces_file()
    if not file.is_file():
        return None
    try:
        core = openvino_core()
    except ImportError:
        return None

    def build():
        try:
            return core.read_model(file)
        except RuntimeError:
            raise WeightsError(f"{file} is damaged; install stylenorm again, or paint with faces 0 and no mask of people") from None

    settings = precision(has_bfloat16(core)) | {"INFERENCE_NUM_THREADS": 1}  # by two, it takes a third more of their time the first time
    return CompiledModel(build, settings, Kept(cache_folder(), ("faces", state_of(file))), (__file__,))


def _tilt(points: np.ndarray, width: float) -> float:
    """points: (y, x) px of the eyes first."""
    down, right = points[1] - points[0]
    tilt = float(np.arctan2(down, right)) if np.hypot(down, right) > APART * width else 0.0
    return tilt if abs(tilt) <= TURNED else 0.0


def _apart(a: Face, b: Face) -> float:
    """In widths of the second."""
    return float(np.hypot(a.x - b.x, a.y - b.y)) / b.width


def shared(a: Face, b: Face) -> float:
    """How much of the union of their boxes both cover."""
    wide = min(a.x + a.width / 2, b.x + b.width / 2) - max(a.x - a.width / 2, b.x - b.width / 2)
    tall = min(a.y + a.height / 2, b.y + b.height / 2) - max(a.y - a.height / 2, b.y - b.height / 2)
    both = max(0.0, wide) * max(0.0, tall)
    return both / (a.width * a.height + b.width * b.height - both)


def _around(face: Face, sigma: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, upper, right and lower of what a face and its blur reach, within a picture of ``size``."""
    reach = (1 + EDGE) / 2 * np.hypot(face.width, face.height) if face.tilt else None
    wide, tall = (2 * sigma + (reach or (1 + EDGE) / 2 * side) for side in (face.width, face.height))
    box = face.x - wide, face.y - tall, face.x + wide + 1, face.y + tall + 1
    return tuple(int(min(max(0, edge), side)) for edge, side in zip(box, (*size, *size)))


def _ellipse(face: Face, left: int, upper: int, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) float32, 1 inside."""
    y, x = np.ogrid[upper : upper + shape[0], left : left + shape[1]]
    x, y = x.astype(np.float32) - face.x, y.astype(np.float32) - face.y
    along, across = x * np.cos(face.tilt) + y * np.sin(face.tilt), y * np.cos(face.tilt) - x * np.sin(face.tilt)
    radius = np.sqrt(np.square(along / (face.width / 2)) + np.square(across / (face.height / 2)))
    share = np.clip((1 + EDGE - radius) / (2 * EDGE), 0, 1)
    return (share * share * (3 - 2 * share)).astype(np.float32)


def _blurred(x: np.ndarray, sigma: float) -> np.ndarray:
    """(h, w, 3) float32, blurred as by a Gaussian, edges repeated; where that is wide, in a smaller copy."""
    k = max(1, int(sigma / FINE))
    height, width = x.shape[:2]
    size = -(-width // k), -(-height // k)
    blurred = []
    for channel in np.moveaxis(x, 2, 0):
        small = np.asarray(Image.fromarray(np.ascontiguousarray(channel)).resize(size, Image.Resampling.BOX))
        small = _mean3(_mean3(small, sigma / k, 1), sigma / k, 0)
        blurred.append(np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)))
    return np.stack(blurred, 2)


def _mean3(x: np.ndarray, sigma: float, axis: int) -> np.ndarray:
    """Three means in a row along an axis, which are nearly a Gaussian (Wells 1986)."""
    reach = int((np.sqrt(4 * sigma * sigma + 1) - 1) / 2)  # of a mean of three that would give at most that
    missing = 12 * sigma * sigma - 3 * ((2 * reach + 1) ** 2 - 1)  # of the variance, times 12
    wider = round(missing / (8 * reach + 8))  # how many of them reach one farther
    for i in range(3):
        r = reach + (i < wider)
        sums = np.cumsum(np.pad(x, [(r + 1, r) if i == axis else (0, 0) for i in range(2)], "edge"), axis, dtype=np.float64)
        here, before = (sums[:, part] if axis else sums[part] for part in (slice(2 * r + 1, None), slice(None, -2 * r - 1)))
        x = ((here - before) / (2 * r + 1)).astype(np.float32)
    return x


def _cut(picture: Pixels, box: tuple[int, int, int, int]) -> np.ndarray:
    left, upper, right, lower = box
    return picture[upper:lower, left:right] if isinstance(picture, np.ndarray) else np.asarray(picture.crop(box))


def _put(picture: Pixels, values: np.ndarray, left: int, upper: int) -> None:
    kind = picture.dtype if isinstance(picture, np.ndarray) else np.dtype(np.uint8)
    values = np.clip(values + np.float32(0.5), 0, np.iinfo(kind).max).astype(kind)
    if isinstance(picture, np.ndarray):
        picture[upper : upper + len(values), left : left + values.shape[1]] = values
    else:
        picture.paste(Image.fromarray(values), (left, upper))
