"""People one by one: where each of them may be, whether somebody is there, and which pixels are hers. No torch.

By BlazePose (Bazarevsky et al. 2020, https://arxiv.org/abs/2006.10204) as MediaPipe has it, which OpenVINO runs on the CPU: one
network finds where people may be, another looks at each such place.
"""

from __future__ import annotations

from math import atan2, cos, hypot, pi, sin
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from stylenorm.catalog import bodies_files, cache_folder
from stylenorm.compat import openvino_core
from stylenorm.compiled import CompiledModel, made_once, precision
from stylenorm.errors import WeightsError
from stylenorm.kept import Kept, state_of

FINDER, VIEWER = 224, 256  # px, sides of the squares that the two networks see
CELLS = ((8, 2), (16, 2), (32, 6))  # px between the places that the first one asks about, and how often it asks at each
LIKELY = 0.4  # from which on a place is looked at
WIDER = 1.25  # of that circle's diameter, the side of the square that is looked at
APART = 0.2  # of the larger circle's radius: boxes whose middles are nearer to each other are one person's
NOWHERE = -20.0  # a logit, of what lies outside of that square

Point = tuple[float, float]


class Place(NamedTuple):
    """Where somebody may be, in px of the photograph: below her head, the middle of her hips, and a point of the circle about her, straight
    above it if she is upright. likely: how likely, of 1."""

    likely: float
    chest: Point
    hips: Point
    above: Point

    @property
    def radius(self) -> float:
        return hypot(self.above[0] - self.hips[0], self.above[1] - self.hips[1])

    def is_of(self, other: "Place") -> bool:
        """Whether both are of one person."""
        return hypot(self.chest[0] - other.chest[0], self.chest[1] - other.chest[1]) < APART * max(self.radius, other.radius)


class Body(NamedTuple):
    """What is to be seen at a place. sure: how surely it is somebody, of 1. nose: in px of the photograph. logit: (256, 256), positive
    where a pixel is hers, of a square that ``matrix`` (3, 3) turns into px of the photograph."""

    place: Place
    sure: float
    nose: Point
    logit: np.ndarray
    matrix: np.ndarray

    @property
    def side(self) -> float:
        """px of the photograph, of the square."""
        return hypot(self.matrix[0, 0], self.matrix[1, 0]) * VIEWER

    def spread(self, size: tuple[int, int], photo: tuple[int, int]) -> np.ndarray:
        """The logit on a grid of ``size`` (w, h) for a photograph of that size, (h, w)."""
        onto = np.diag([size[0] / photo[0], size[1] / photo[1], 1.0]) @ self.matrix
        way = tuple(np.linalg.inv(onto)[:2].ravel())
        logit = Image.fromarray(np.clip(self.logit, NOWHERE, -NOWHERE).astype(np.float32))
        return np.asarray(logit.transform(size, Image.Transform.AFFINE, way, Image.Resampling.BILINEAR, fillcolor=NOWHERE))


def places(
    photo: Image.Image, box: tuple[float, float, float, float] | None = None, least: float = LIKELY, mirrored: bool = True
) -> list[Place]:
    """Where people may be in an "RGB" photograph, or within ``box`` (left, upper, right, lower) of it; the most likely first.

    mirrored: it is searched in the mirror as well.
    """
    left, upper, right, lower = box or (0, 0, *photo.size)
    side = max(right - left, lower - upper)
    matrix = _matrix(((left + right) / 2, (upper + lower) / 2), side, 0, FINDER)
    seen = _seen(photo, matrix, FINDER) * 2 - 1
    found: list[Place] = []
    for turned in (False, True)[: 1 + mirrored]:
        marks, likely = _finder()(np.ascontiguousarray(seen[:, ::-1] if turned else seen)[None])
        likely = 1 / (1 + np.exp(-np.clip(likely[0, :, 0], -30, 30)))
        for i in np.nonzero(likely > least)[0]:
            points = marks[0, i, [0, 1, 4, 5, 6, 7]].reshape(3, 2) + FINDER * _asked()[i]  # before them and between a box's width and height
            if turned:
                points[:, 0] = FINDER - points[:, 0]
            found.append(Place(float(likely[i]), *map(tuple, (points @ matrix[:2, :2].T + matrix[:2, 2]).tolist())))
    return _one_each(sorted(found, reverse=True))


def _one_each(found: list[Place]) -> list[Place]:
    """For each person the mean of her places, by how likely they are."""
    each = []
    while found:
        hers = [place for place in found if place.is_of(found[0])]
        found = [place for place in found if not place.is_of(found[0])]
        likely = np.array([place.likely for place in hers])
        points = np.array([place[1:] for place in hers])  # n, 3, 2
        mean = (likely[:, None, None] * points).sum(0) / likely.sum()
        each.append(Place(hers[0].likely, *map(tuple, mean.tolist())))
    return each


def look_at(photo: Image.Image, place: Place) -> Body:
    """What is to be seen at a place of an "RGB" photograph."""
    turned = atan2(place.above[1] - place.hips[1], place.above[0] - place.hips[0]) + pi / 2
    matrix = _matrix(place.hips, max(1.0, 2 * WIDER * place.radius), turned, VIEWER)
    marks, sure, logit, *_ = _viewer()(_seen(photo, matrix, VIEWER)[None])
    nose = matrix @ [*marks[0, :2], 1]
    return Body(place, float(sure[0, 0]), (float(nose[0]), float(nose[1])), logit[0, ..., 0], matrix)


def _matrix(middle: Point, side: float, turned: float, pixels: int) -> np.ndarray:
    """From px of a square of ``pixels`` to px of the photograph, in which it has that middle and side and is turned by so many rad."""
    right, down = side / pixels * cos(turned), side / pixels * sin(turned)
    half = pixels / 2
    return np.array([[right, -down, middle[0] - half * (right - down)], [down, right, middle[1] - half * (down + right)], [0, 0, 1]])


def _seen(photo: Image.Image, matrix: np.ndarray, pixels: int) -> np.ndarray:
    """(pixels, pixels, 3), 0 to 1, of the square that ``matrix`` turns into px of the photograph; black beside the photograph."""
    corners = (matrix @ np.array([[0, pixels, pixels, 0], [0, 0, pixels, pixels], [1, 1, 1, 1]]))[:2]
    lowest, highest = np.floor(corners.min(1)).astype(int), np.ceil(corners.max(1)).astype(int) + 1
    lowest, highest = np.maximum(lowest, 0), np.minimum(highest, photo.size)
    if (highest <= lowest).any():
        return np.zeros((pixels, pixels, 3), np.float32)
    shrunk = max(1.0, hypot(matrix[0, 0], matrix[1, 0]))
    size = tuple(max(1, round(extent / shrunk)) for extent in highest - lowest)
    part = photo.resize(size, Image.Resampling.BILINEAR, (*map(int, lowest), *map(int, highest)), reducing_gap=3)
    scale = np.array(size) / (highest - lowest)
    way = np.diag([*scale, 1.0]) @ np.array([[1, 0, -lowest[0]], [0, 1, -lowest[1]], [0, 0, 1]]) @ matrix
    square = part.transform((pixels, pixels), Image.Transform.AFFINE, tuple(way[:2].ravel()), Image.Resampling.BILINEAR)
    return np.asarray(square, np.float32) / 255


@made_once
def _asked() -> np.ndarray:
    """(n, 2): the places that `_finder` asks about, x and y from 0 to 1, in its order."""
    squares = []
    for step, times in CELLS:
        along = (np.arange(FINDER // step, dtype=np.float32) + 0.5) * step / FINDER
        y, x = np.meshgrid(along, along, indexing="ij")
        squares.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), times, 0))
    return np.concatenate(squares)


@made_once
def _finder() -> CompiledModel:
    return finding_network(bodies_files()[0], __file__)


@made_once
def _viewer() -> CompiledModel:
    return finding_network(bodies_files()[1], __file__)


def prepare() -> None:
    """Have at hand what `places` and `look_at` take. Raises `WeightsError` where it is missing."""
    _finder(), _viewer()


def finding_network(file: Path, source: str) -> CompiledModel:
    """The network in ``file``, to find people with, for the module whose own file is ``source``."""
    if not file.is_file():
        raise WeightsError(f"{file}, which finds people, does not exist; install stylenorm again, or give a mask")
    try:
        core = openvino_core()
    except ImportError:
        raise WeightsError("finding people takes the package openvino, which is missing here; give a mask") from None

    def build():
        try:
            return core.read_model(file)
        except RuntimeError:
            raise WeightsError(f"{file} is damaged; install stylenorm again, or give a mask") from None

    return CompiledModel(build, precision(False), Kept(cache_folder(), (file.stem, state_of(file))), (source,))
