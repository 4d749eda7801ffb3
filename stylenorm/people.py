"""People: where they are in a photograph, as a mask that follows their edges. No torch.

MediaPipe's Selfie Segmentation (Google 2021, https://ai.google.dev/edge/mediapipe/solutions/vision/image_segmenter) tells them from all
else. It takes whatever stands in front for somebody, so `stylenorm.poses` and `stylenorm.faces` have to bear it out. What is found is
brought to the photograph's edges by a guided filter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations_with_replacement

import numpy as np
from PIL import Image, ImageOps

from stylenorm.bands import BAND
from stylenorm import poses
from stylenorm.catalog import people_file
from stylenorm.compiled import CompiledModel, made_once
from stylenorm.faces import Face, find_faces
from stylenorm.formats import BACKGROUND, PEOPLE
from stylenorm.images import Source, read_picture
from stylenorm.masks import mask_levels
from stylenorm.poses import finding_network
from stylenorm.witnesses import NONE, SEEN, borne_out, mean_around

SQUARE, SIDES = 256, (224, 320)  # px: the network's own size, in which it sees a photograph as a square, and the shorter sides of further looks
STRIDE, LONGEST = 16, 2  # px, of the network, and how often its shorter side a longer one may hold
WORK = 400  # px, longer side of what is filtered
SMALL, NEAR = 0.3, 7.0  # of the photograph's shorter side: heads below that are looked at from nearer, in squares of so many of their height
ABOVE = 0.22  # of such a square, how far below its upper edge the middle of the head is
FEWEST, MOST = 10, 12  # px of a head's width, and heads, that are looked at so
CERTAIN = 9.0  # the largest logit that is believed
BORNE = 5.0  # logits, for what is wholly borne out, and against what is not
ASKED, FADE = 4, 0.15  # frames of a film, from one time that it is borne out to the next, and how quickly it is forgotten, a frame
MOVED = 0.06  # of the frame: where so much more or less is taken for somebody, it is asked at once
REACH, EVEN = 5, 2e-4  # px of `WORK`, of the filter, and the variance of colour, of 1, below which a square has no edge
LEAST, ALL = 0.25, 0.75  # what the filter gives for nothing and for all
NOBODY = "no people are to be seen in it"
FOLLOWED, MORE_AT_ONCE = 0.25, 1.5  # of what is new in a film's frame is taken at once, and more where more has changed


def find_people(photo: Source) -> Image.Image:
    """A mask of the people in a photograph, upright and as large as it: mode "L", 255 where they are.

    photo: a path, a PIL image, an array or a `Picture`. Raises `ImageError` for what is no picture, and `WeightsError` where OpenVINO or
    the network's file is missing.
    """
    photo = _upright(photo)
    logit = _logit(photo, faces=(faces := find_faces(photo)))
    return _followed(_chance(logit, borne_out(photo, logit, faces)), photo)


def prepare_people() -> None:
    """Have at hand what `find_people` takes. Raises `WeightsError` where it is missing."""
    _network()
    poses.prepare()


def _upright(photo: Source) -> Image.Image:
    plain = isinstance(photo, Image.Image) and photo.mode == "RGB" and not photo.info  # of a file, it may lie on its side
    return photo if plain else read_picture(photo).rgb


def is_word(mask: object) -> bool:
    """Whether a mask is `PEOPLE` or `BACKGROUND`, to be found in each photograph."""
    return isinstance(mask, str) and mask in (PEOPLE, BACKGROUND)


class Seen:
    """What masks are in one photograph, "RGB": people are looked for once, and only where they are asked for."""

    def __init__(self, photo: Image.Image, tell: Callable[[str], None] | None = None, name: str = "", find: Callable = find_people) -> None:
        """tell: is told where nobody is to be seen in the photograph of that name. find: makes the people's mask."""
        self._photo, self._tell, self._name, self._find = photo, tell, name, find
        self._found: Image.Image | None = None

    def __call__(self, mask):
        """``mask``, or what a word stands for, as an image."""
        if not is_word(mask):
            return mask
        return self.people if mask == PEOPLE else ImageOps.invert(self.people)

    @property
    def people(self) -> Image.Image:
        if self._found is None:
            self._found = self._find(self._photo)
            if self._tell and not any_in(self._found):
                self._tell(f"{self._name or 'the photograph'}: {NOBODY}")
        return self._found


def small_mask(mask, photo: Image.Image, size: tuple[int, int]) -> Image.Image | None:
    """`stylenorm.masks.mask_levels` of what is a mask for ``photo``, at the size of a small copy of it."""
    return None if mask is None else mask_levels(mask_levels(Seen(photo)(mask), photo.size), size)


def nobody_in(name: object, somebody: bool | None) -> list[str]:
    """What is to be told of a film or an animation. somebody: whether people were seen in any of its frames, None where they were not looked for."""
    return [f"{NOBODY.removesuffix('it')}{name}"] if somebody is False else []


def any_in(mask: Image.Image) -> bool:
    """Whether anybody is there."""
    return sum(mask.histogram()[128:]) >= SEEN * mask.width * mask.height


class Followers:
    """The people of a film, from frame to frame: their edges do not tremble, and they do not come and go."""

    def __init__(self, state: Mapping[str, np.ndarray] | None = None) -> None:
        """state: of another one, to go on from there."""
        self.state = dict(state) if state and "age" in state else {}  # else as it was before bodies bore anything out
        """people: (3, h, w) float32, how likely somebody is there, 0 to 1; how far it is borne out; and what was taken for somebody when that
        was asked. age: how many frames ago that was."""

    def __call__(self, frame: Image.Image, again: bool = False) -> Image.Image:
        """`find_people` of the next frame, "RGB". again: it is the same as the one before."""
        if not again or not self.state:
            self._follow(frame)
        return _followed(self.state["people"][0], frame)

    def _follow(self, frame: Image.Image) -> None:
        logit = _logit(frame, quick=True)
        taken, before = logit > 0, self.state.get("people")
        known = before is not None and before.shape == (3, *logit.shape)
        chance, borne, then = before if known else (0.0, NONE, taken)
        age = int(self.state["age"]) + 1 if known else 0
        if not known or age >= ASKED or (taken != then).mean() > MOVED:
            borne, then, age = np.maximum(borne_out(frame, logit), borne - FADE * age), taken, 0
        now = _chance(logit, borne)
        if known:
            now = chance + np.minimum(1, FOLLOWED + MORE_AT_ONCE * np.abs(now - chance)) * (now - chance)
        self.state = {"people": np.stack([now, borne, then]).astype(np.float32), "age": np.array(age)}


def _chance(logit: np.ndarray, borne: np.ndarray) -> np.ndarray:
    """From 0 to 1: how likely somebody is there."""
    return 1 / (1 + np.exp(-(logit + BORNE * borne)))


def _logit(photo: Image.Image, quick: bool = False, faces: Sequence[Face] = ()) -> np.ndarray:
    """Of somebody, or something in front, being there, (h, w) of `WORK` px. quick: from one look, as for the frames of a film."""
    size = _within(photo.size, WORK)
    looks = [_within(photo.size, side, shorter=True) for side in ([SQUARE] if quick else SIDES)] + [(SQUARE, SQUARE)] * (not quick)
    return _from_nearer(photo, sum(_enlarged(_look(photo, look), size) for look in looks) / len(looks), faces)


def _within(size: tuple[int, int], side: int, shorter: bool = False) -> tuple[int, int]:
    """A size of these proportions, whose longer side is ``side``; or whose shorter one is, in strides, and the longer one within `LONGEST` of it."""
    if shorter:
        return tuple(round(min(LONGEST, s / min(size)) * side / STRIDE) * STRIDE for s in size)
    return tuple(max(1, round(s * side / max(size))) for s in size)


def _look(photo: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Logits, (H, W) of ``size``: the mean of what the network finds and of what it finds in the mirror."""
    seen = np.asarray(photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=3), np.float32).transpose(2, 0, 1)[None] / 255
    return (_logits(seen) + _logits(seen[..., ::-1])[:, ::-1]) / 2


def _logits(seen: np.ndarray) -> np.ndarray:
    chance = _network()(np.ascontiguousarray(seen))[0][0, 0]
    with np.errstate(divide="ignore"):
        return np.clip(np.log(chance) - np.log1p(-chance), -CERTAIN, CERTAIN)


def _from_nearer(photo: Image.Image, logit: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """``logit``, and around small heads the mean of it and of what is found there from nearer, where that is more."""
    height, width = logit.shape
    right, down = width / photo.width, height / photo.height
    sums, shares = logit.copy(), np.ones_like(logit)
    for face in [f for f in faces if f.width >= FEWEST and f.height < SMALL / 2 * min(photo.size)][:MOST]:
        left, upper, low_right, low = _around(face, photo.size)
        there = slice(round(upper * down), round(low * down)), slice(round(left * right), round(low_right * right))
        tall, wide = (part.stop - part.start for part in there)
        if min(tall, wide) < STRIDE:
            continue
        found = _enlarged(_look(photo.crop((left, upper, low_right, low)), (SQUARE, SQUARE)), (wide, tall))
        share = np.minimum.outer(_fading(tall), _fading(wide))
        sums[there] += share * found
        shares[there] += share
    return np.maximum(logit, sums / shares)


def _around(face: Face, size: tuple[int, int]) -> tuple[int, int, int, int]:
    side = NEAR * face.height
    box = face.x - side / 2, face.y - ABOVE * side, face.x + side / 2, face.y + (1 - ABOVE) * side
    return tuple(int(min(max(0, edge), most)) for edge, most in zip(box, (*size, *size)))


def _fading(n: int) -> np.ndarray:
    """1 in the middle half of ``n`` places, and less towards both ends."""
    place = np.arange(n, dtype=np.float32)
    return np.minimum(1, 4 * np.minimum(place + 1, n - place) / n)


def _enlarged(values: np.ndarray, size: tuple[int, int], box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(values, np.float32)).resize(size, Image.Resampling.BILINEAR, box))


def _followed(chance: np.ndarray, photo: Image.Image) -> Image.Image:
    """``chance`` (h, w) at the size of ``photo``, brought to its edges, as a mask.

        q = up(a) I + up(b)        a = (cov(i, i) + EVEN)^-1 cov(i, p), b = mean(p) - a mean(i)

    with p the chance, i the colours of a small copy and I those of the photograph: guided filtering (He et al. 2010, for colours) with
    coefficients from a small copy (He and Sun 2015).
    """
    height, width = chance.shape
    small = np.asarray(photo.resize((width, height), Image.Resampling.BOX), np.float32).transpose(2, 0, 1) / 255
    *slopes, base = _coefficients(small, chance)
    mask = Image.new("L", photo.size)
    for top in range(0, photo.height, BAND):
        last = min(top + BAND, photo.height)
        rows = np.asarray(photo.crop((0, top, photo.width, last)))
        size, box = (photo.width, last - top), (0, top * height / photo.height, width, last * height / photo.height)
        q = _enlarged(base, size, box)
        for channel, slope in enumerate(slopes):
            q = q + _enlarged(slope, size, box) * rows[..., channel] / 255
        levels = np.clip(255 * (q - LEAST) / (ALL - LEAST) + 0.5, 0, 255).astype(np.uint8)
        mask.paste(Image.fromarray(levels), (0, top))
    return mask


def _coefficients(colours: np.ndarray, p: np.ndarray) -> np.ndarray:
    """a and b of `_followed`, (3 + 1, h, w), smoothed."""
    mean_i, mean_p = mean_around(colours, REACH), mean_around(p, REACH)
    covariance = mean_around(colours * p, REACH) - mean_i * mean_p
    among = {pair: mean_around(colours[pair[0]] * colours[pair[1]], REACH) - mean_i[pair[0]] * mean_i[pair[1]] for pair in combinations_with_replacement(range(3), 2)}
    (rr, rg, rb), (gg, gb), bb = [among[0, i] for i in range(3)], [among[1, i] for i in (1, 2)], among[2, 2]
    rr, gg, bb = rr + EVEN, gg + EVEN, bb + EVEN
    inverse = np.array([  # of a symmetric matrix, times its determinant
        [gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg],
        [rb * gb - rg * bb, rr * bb - rb * rb, rg * rb - rr * gb],
        [rg * gb - rb * gg, rg * rb - rr * gb, rr * gg - rg * rg],
    ])  # fmt: skip
    determinant = rr * inverse[0, 0] + rg * inverse[0, 1] + rb * inverse[0, 2]
    slopes = np.einsum("abhw,bhw->ahw", inverse, covariance) / determinant
    return mean_around(np.concatenate([slopes, (mean_p - (slopes * mean_i).sum(0))[None]]), REACH)


@made_once
def _network() -> CompiledModel:
    return finding_network(people_file(), __file__)
