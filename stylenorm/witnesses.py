"""Who bears out that people are in a photograph: bodies, and faces that have none. No torch.

What tells people from all else takes whatever stands in front for somebody: a cat, a cup, the table with the cup on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from PIL import Image

from stylenorm import poses
from stylenorm.faces import Face, find_faces
from stylenorm.poses import Body

SOMEBODY = ((0.5, 0.9, 0.5), (0.75, 0.3, 0.5), (0.8, 0.95, 0.1))  # a body is somebody's if its place is so likely, it is so sure, and so much of it is in front
FACED, SEEN_BY = 0.5, 0.15  # how sure it is if there is a face, and how likely a place about a face without one is, for that to be somebody's
NOSE = 0.7  # of a face's width and height: how far from its middle the nose may be
SOFT = 0.03  # of the square about a body: half the width in which what is hers goes over into what is not
HIGHER, HEADWEAR = 0.3, 1.4  # of a face's height: how far above its middle that of what is worn on a head is, and how far that may reach
ALONE, NONE = -1.0, -3.0  # how far what nobody's body or face bears out is, beside people, and where there are none
BESIDE = ((7.0, 0.22), (4.0, 0.3))  # squares about a face of so many of its height, and where in them, from above, it is
PARTS, PART = 6, 0.004  # how many further parts are looked at, and of the photograph, what such a part is at least
WIDER = 1.4  # times a part's longer side: the square that is searched for a body
BLOCK = 4  # px of `WORK`: in such blocks it is found what hangs together
SEEN = 0.002  # of a photograph: less is nobody
MOST = 12  # faces whose bodies are looked for; the others of a crowd are believed


def borne_out(photo: Image.Image, logit: np.ndarray, faces: Sequence[Face] | None = None) -> np.ndarray:
    """How far it is borne out, at each place of ``logit``, that people are there, from `NONE` to 1.

    faces: those of the photograph; else they are looked for where they are needed, and the rest is quicker as well.
    """
    return _Witnesses(photo, logit, cache(lambda: find_faces(photo) if faces is None else faces), faces is not None).borne()


class _Witnesses:
    """Who bears out that somebody is in a photograph: bodies, and faces that have none."""

    def __init__(self, photo: Image.Image, logit: np.ndarray, faces: Callable[[], Sequence[Face]], thorough: bool) -> None:
        """thorough: what nobody's body is in is searched as well, and all of it in the mirror."""
        self.photo, self.logit, self.faces, self.thorough = photo, logit, faces, thorough
        self.scale = photo.width / logit.shape[1], photo.height / logit.shape[0]  # px of the photograph, of a place
        self.seen: list[tuple[Body, np.ndarray]] = []  # with which places are its own

    def borne(self) -> np.ndarray:
        """How far each place is borne out."""
        self._search(mirrored=self.thorough)
        if self.thorough:
            for face in self.faces()[:MOST]:
                for box in _beside(face):
                    if not self._body_of(face):
                        self._search(box)
            for box in self._parts():
                self._search(box)
        bodies = self._somebodys()
        faces = self.faces() if self.thorough or self._much_left(bodies) else []
        alone = [face for number, face in enumerate(faces) if not self._body_of(face) and (number >= MOST or self._is_there(face))]
        if not bodies and not alone:
            return np.full(self.logit.shape, NONE, np.float32)
        borne = np.full(self.logit.shape, ALONE, np.float32)
        for body, there in bodies:
            reach = max(2, round(SOFT * body.side / self.scale[0]))
            borne = np.maximum(borne, 2 * mean_around(there.astype(np.float32), reach) - 1)
        for face in faces:
            if self._body_of(face):
                borne = np.maximum(borne, self._headwear(face))
        if alone:
            whole = labels(self.logit > 0)
            theirs = np.isin(whole, [number for face in alone if (number := whole[self._place(face)])])
            borne = np.maximum(borne, np.where(mean_around(theirs.astype(np.float32), BLOCK) > 0, 0, ALONE))
        return borne

    def _is_there(self, face: Face) -> bool:
        """Whether there is any body with a face that has none: an animal's has not."""
        return bool(poses.places(self.photo, _beside(face)[-1], SEEN_BY))

    def _headwear(self, face: Face) -> np.ndarray:
        """0 where a hood, a hat or hair may be, which a body lacks, and less and less around that."""
        rows, columns = (scale * (np.arange(n, dtype=np.float32) + 0.5) for n, scale in zip(self.logit.shape, self.scale[::-1]))
        apart = np.hypot(columns - face.x, rows[:, None] - (face.y - HIGHER * face.height)) / face.height
        return np.clip(HEADWEAR - apart, ALONE, 0)

    def _search(self, box: tuple[float, float, float, float] | None = None, mirrored: bool = True) -> None:
        for place in poses.places(self.photo, box, mirrored=mirrored):
            if not any(place.is_of(other.place) for other, _ in self.seen):
                body = poses.look_at(self.photo, place)
                self.seen.append((body, body.spread(self.logit.shape[::-1], self.photo.size) > 0))

    def _somebodys(self) -> list[tuple[Body, np.ndarray]]:
        """The bodies that are somebody's, of each face but one; in a film faces are asked only if something is left without them."""
        sure = [one for one in self.seen if self._is_sure(*one)]
        if not self.thorough and not self._much_left(sure):
            return sure
        owners = [(face, self._body_of(face)) for face in self.faces()]
        faced = [body for _, body in owners if body]

        def is_somebodys(body: Body, there: np.ndarray) -> bool:
            if any(body is other for other in faced):
                return True
            return self._is_sure(body, there) and not any(other and _is_nose(body, face) for face, other in owners)

        return [one for one in self.seen if is_somebodys(*one)]

    def _is_sure(self, body: Body, there: np.ndarray) -> bool:
        return any(body.place.likely > likely and body.sure > sure and self._in_front(there) > front for likely, sure, front in SOMEBODY)

    def _in_front(self, there: np.ndarray) -> float:
        """How much of these places is taken for somebody."""
        return float((self.logit[there] > 0).mean()) if there.any() else 0.0

    def _body_of(self, face: Face) -> Body | None:
        """Of those whose nose is in the face, the one that is the surest and the most of which is in front."""
        hers = [(body.sure * self._in_front(there), number) for number, (body, there) in enumerate(self.seen) if body.sure > FACED and _is_nose(body, face)]
        return self.seen[max(hers)[1]][0] if hers else None

    def _left(self, bodies: Sequence[tuple[Body, np.ndarray]]) -> np.ndarray:
        """(h, w): what is taken for somebody, and is nobody's of these."""
        return (self.logit > 0) & ~np.any([there for _, there in bodies] or [np.zeros(self.logit.shape, bool)], 0)

    def _much_left(self, bodies: Sequence[tuple[Body, np.ndarray]]) -> bool:
        return self._left(bodies).mean() > SEEN

    def _parts(self) -> list[tuple[float, float, float, float]]:
        """Squares about the largest parts of what is left."""
        whole = labels(self._left(self._somebodys()))
        sizes = np.bincount(whole.ravel())
        sizes[0] = 0
        return [self._about(whole == i) for i in np.argsort(-sizes)[:PARTS] if sizes[i] > PART * whole.size]

    def _about(self, part: np.ndarray) -> tuple[float, float, float, float]:
        (top, bottom), (left, right) = ((scale * along[0], scale * (along[-1] + 1)) for scale, along in zip(self.scale[::-1], map(np.flatnonzero, (part.any(1), part.any(0)))))
        return _square((left + right) / 2, (top + bottom) / 2, WIDER * max(right - left, bottom - top))

    def _place(self, face: Face) -> tuple[int, int]:
        across, down = (int(min(max(0, at / scale), n - 1)) for at, scale, n in zip((face.x, face.y), self.scale, self.logit.shape[::-1]))
        return down, across


def _beside(face: Face) -> list[tuple[float, float, float, float]]:
    """Squares in which the body of a face may be."""
    return [_square(face.x, face.y + (0.5 - above) * side * face.height, side * face.height) for side, above in BESIDE]


def _is_nose(body: Body, face: Face) -> bool:
    """Whether the body's nose is in the face."""
    return abs(body.nose[0] - face.x) < NOSE * face.width and abs(body.nose[1] - face.y) < NOSE * face.height


def _square(x: float, y: float, side: float) -> tuple[float, float, float, float]:
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


def labels(there: np.ndarray) -> np.ndarray:
    """Of (h, w) booleans, a number from 1 up for each part that hangs together, in blocks of `BLOCK` px, and 0 elsewhere."""
    height, width = there.shape
    blocks = np.pad(there, [(0, -height % BLOCK), (0, -width % BLOCK)]).reshape(-(-height // BLOCK), BLOCK, -(-width // BLOCK), BLOCK).any((1, 3))
    number = np.where(blocks, 1 + np.arange(blocks.size).reshape(blocks.shape), 0)
    while True:
        around = np.pad(number, 1)
        across = np.maximum(np.maximum(around[:, :-2], around[:, 1:-1]), around[:, 2:])
        grown = np.where(blocks, np.maximum(np.maximum(across[:-2], across[1:-1]), across[2:]), 0)
        if (grown == number).all():
            break
        number = grown
    _, number = np.unique(number, return_inverse=True)
    number = number.reshape(blocks.shape) + (0 if not blocks.all() else 1)  # 0 is what is nowhere
    return np.where(there, number.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width], 0)


def mean_around(x: np.ndarray, reach: int) -> np.ndarray:
    """Of squares of ``reach`` px in each direction, edges repeated."""
    side = 2 * reach + 1
    for axis in (-1, -2):
        around = [(0, 0)] * x.ndim
        around[axis] = reach + 1, reach
        sums = np.moveaxis(np.cumsum(np.pad(x, around, "edge"), axis), axis, 0)
        x = np.moveaxis((sums[side:] - sums[:-side]) / side, 0, axis)
    return x
