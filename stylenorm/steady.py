"""What makes paintings of moving pictures hold still: a small memory for one stream, from each frame to the next.

Painted one by one, two frames that hardly differ come out differently, for three reasons:

- each frame's own moments are stripped from it, and they change with all that enters or leaves the picture. So
  moments are smoothed over time, or, where all frames are known before, pooled over them;
- the network's deep maps have a position every 16 px, and what lies between two positions is painted otherwise
  than what lies on one. So that grid is moved along with the picture's motion (by padding), as far as that is one
  motion for all of it. This matters most by far in a pan: see BENCHMARKS.md;
- noise. So the last painting, moved along, is blended in wherever the frame shows what it showed before, and so are the
  frames themselves in what the network sees (`stylenorm.denoising`).

Where OpenCV is installed (`stylenorm.flow`), the camera may zoom, turn and shake as well, and what moves otherwise has a motion of
its own at each place; the grid follows parts of a pixel. Else one shift serves for the whole frame.

Nothing is kept on the network: several streams may be painted at once, each with a `Steady` of its own. What paints is
handed in; no torch is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from stylenorm import bars, denoising, flow
from stylenorm.bands import painted_inside
from stylenorm.behind import moved, shown
from stylenorm.detail import enlarge
from stylenorm.errors import StyleError, in_short
from stylenorm.faces import Followed, faces_of, with_features
from stylenorm.grain import PERIOD
from stylenorm.images import Source, fit, larger_of, read_picture, recolored
from stylenorm.masks import mask_levels
from stylenorm.people import Followers, Seen, any_in, is_word
from stylenorm.tensors import fit_even, side_to_paint

if TYPE_CHECKING:  # which would import torch
    from stylenorm.style import Style

SMOOTHING = 0.8  # the share of the past, unless the caller says otherwise
THUMBNAIL = 32  # px, side of what scene cuts are told by
CUT = 18.0  # levels of 255 by which thumbnails differ on average after a cut, and
CUT_RATIO = 3.0  # how many times the usual change that is
FAINT_CUT, RESEMBLING = 4.0, 0.5  # as many levels at least, and this correlation at most, where a frame has less contrast than most
SAME, OTHER = 4.0, 12.0  # levels: up to the first two places count as alike, from the second on as different
CONTRAST, FAINT = 30.0, 0.5  # levels: deviation of a frame from which on that holds, and what counts as alike in any
NOISE, MOST_NOISE = 1.6, 4.0  # times the median of differences, and the deviation, that noise makes at most
AGAIN = 0.03  # levels: a frame that differs by no more on average, and nowhere by more than `SAME`, is the one before once more
UNLIKE = 0.2  # of a channel's variance lies between frames: a fade has 0.9, a pan 0.1 at most
TOGETHER = 1_500_000  # pixels of the frames that are measured as one picture
SMALL = 6  # positions of the deepest maps: in smaller frames one thing is most of the picture
WATCHED = 256  # px, longer side of the copies of frames in which cuts are found where nothing is painted
MOTION_PIXELS = 500_000  # motion is searched in pictures of at most this size, then refined
TELLING = 0.95  # of the pixels do not tell whether a shift has been
NOISY = 2  # px: as far around each pixel the mean is taken before shifts are compared
EXACT = 0.5  # levels: where one shift leaves no more than that, no other motion is searched, and
BETTER = 0.5  # so much nearer has a motion of its own to bring a place: what is not resampled stays sharp
FEW = 4  # px between those that are asked whether plain ground stands
STANDING, GOING = 0.05, -0.02  # levels that it has to be nearer by that on average to stand from now on, or to go on standing
STILL = 1.5  # and so much to stand still in a picture that moves, or to move where it stands: more than noise alone makes of it on plain ground


class Pool:
    """Moments of all frames, taken together.

    Each frame is measured by itself, and the mean over them is taken: of the means, and of the mean squares. That does well
    where they are alike. But a normalization then meets what those before it made by the moments of one frame, and has to
    serve what they make by those of all: the less alike the frames, the farther it is off, through forty of them. So
    frames that are not alike, in a fade for instance, are measured anew, by ``together``.

    together: what gives the moments (2, T) of frames (N, H, W, 3), as of one picture, in a style. It takes several times
    as long; as many frames as `TOGETHER` allows are given to it, evenly chosen.
    """

    place = 0, 0  # of the grain on the upper left pixel: frames are measured one by one
    part: Image.Image | None = None  # of the frame, where its painting is to be seen, see `stylenorm.behind`

    def __init__(self, together: Callable[[np.ndarray, Style], np.ndarray] | None = None) -> None:
        self._together = together
        self._sums: dict[str, np.ndarray] = {}
        self._kept: dict[str, list[tuple[np.ndarray, Style]]] = {}  # every so many-th frame, as it was painted
        self._frames, self._every = 0, 1

    def begin(self) -> None:
        """A frame begins."""
        self._frames, self._part = self._frames + 1, 0

    def shown(self, frame: Image.Image) -> Image.Image:
        """What the network sees of the frame: all as it is, but for what is not to be seen of its painting."""
        return moved(frame, frame, self.part)

    def run(self, backend, pixels: np.ndarray, style: Style) -> np.ndarray:
        """Paint with the frame's own moments, and take note of them. Called once or more for each frame."""
        painted, own = backend.steered(pixels, style, np.zeros((2, sum(style.channels)), np.float32), 1.0)
        mean, var = own.astype(np.float64)
        name = f"moments {self._part}"
        self._add(name, np.stack([mean, mean * mean, var]))
        self._keep(name, pixels, style)
        self._part += 1
        return painted

    def settle(self, style: Style) -> Style:
        self._add("style", style.row().astype(np.float64))
        return style

    def pooled(self) -> dict[str, np.ndarray]:
        """What `Steady` takes for ``fixed``."""
        means = {name: total / self._frames for name, total in self._sums.items()}
        for name, kept in self._kept.items():
            mean, square, within = means[name]
            between = np.maximum(square - mean * mean, 0)
            means[name] = np.stack([mean, between + within])
            unlike = (between > UNLIKE * (between + within)).any() and len({pixels.shape for pixels, _ in kept}) == 1
            if unlike and self._together and len(kept) > 1:
                means[name] = self._together(np.stack([pixels for pixels, _ in kept]), _mean([style for _, style in kept]))
        return {name: value.astype(np.float32) for name, value in means.items()}

    def _add(self, name: str, value: np.ndarray) -> None:
        self._sums[name] = self._sums.get(name, 0) + value

    def _keep(self, name: str, pixels: np.ndarray, style: Style) -> None:
        if (self._frames - 1) % self._every:
            return
        kept = self._kept.setdefault(name, [])
        kept.append((pixels, style))
        if name == "moments 0" and len(kept) * pixels.shape[0] * pixels.shape[1] > TOGETHER and len(kept) > 1:
            self._every *= 2
            for name in self._kept:
                self._kept[name] = self._kept[name][::2]


def _mean(styles: list[Style]) -> Style:
    """Of styles that were predicted from a frame each. One with regions is the same for all."""
    last = styles[-1]
    if last.has_regions or all(style is last for style in styles):
        return last
    return last.with_row(sum(style.row() for style in styles) / np.float32(len(styles)))


class Steady:
    """The memory of one stream.

    smoothing: from 0 to below 1, the share of the past in moments and, where nothing changes, in pixels.
    stride: of the generator, px. fixed: moments to use for every frame, from `Pool.pooled`.

    part: of the next frame, where its painting is to be seen; None for all of it, see `stylenorm.behind`.
    For each frame: `begin` with it, then `run` (and `settle`) to paint what is `shown` of it, then `end` with the painting.
    """

    part: Image.Image | None = None

    def __init__(self, smoothing: float, stride: int, fixed: Mapping[str, np.ndarray] | None = None) -> None:
        if not isinstance(smoothing, Real) or not 0 <= smoothing < 1:
            raise StyleError(f"smoothing must lie between 0 and 1, and below 1, not {in_short(smoothing)}")
        if not isinstance(fixed, (Mapping, type(None))):
            raise StyleError(f"fixed is what Stream.pooled returns, which {in_short(fixed)} is not")
        self.smoothing, self.stride, self.fixed = smoothing, stride, fixed
        self.cuts = 0
        self.somebody: bool | None = None  # whether people were to be seen in any frame; None as long as they were not asked for
        self._forget()

    def _forget(self) -> None:
        self._kept: dict[str, np.ndarray] = {}
        self._moved = np.zeros(2)  # the grid and the grain, px down and to the right
        self._change = 0.0  # between thumbnails, usually
        self._before = self._mean = self._painted = None  # the frame before, the mean of all up to it, and its painting
        self._softened = None  # `_soft` of the frame before, where it is at hand
        self._shown: tuple[np.ndarray, np.ndarray] | None = None  # the frame before, and what was shown of it
        self._stood = self._open = False
        self._followed: Followed | None = None  # the faces
        self._people: Followers | None = None

    @property
    def state(self) -> dict[str, np.ndarray]:
        """All of it, for `restore`."""
        pictures = {"before": self._before, "mean": self._mean, "painted": self._painted, "shown": self._shown[1]} if self._before is not None else {}
        pictures |= {"faces": self._followed.state} if self._followed else {}
        pictures |= self._people.state if self._people else {}
        return {"offset": self._moved, "change": np.array(self._change), "stood": np.array(self._stood), **self._kept, **pictures}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from the `state` of a stream with the same settings."""
        kept = dict(state)
        self._moved, self._change, self._stood = kept.pop("offset"), float(kept.pop("change")), bool(kept.pop("stood", False))
        self._before, self._mean, self._painted, shown = (kept.pop(name, None) for name in ("before", "mean", "painted", "shown"))
        self._shown, self._softened = None if shown is None else (self._before, shown), None
        self._followed = Followed(kept.pop("faces")) if "faces" in kept else None
        self._people = Followers({name: kept.pop(name) for name in ("people", "age") if name in kept}) if "people" in kept else None
        self._kept = kept

    @property
    def place(self) -> tuple[int, int]:
        """Which (row, column) of the grain lies on the upper left pixel; modulo ``stride``, of the network's grid."""
        down, right = np.rint(self._moved).astype(int) % PERIOD
        return int(down), int(right)

    def again(self, pixels: np.ndarray) -> np.ndarray | None:
        """What was shown of the frame before, if this one is the same but for what an encoder does to it, as in drawn films and recordings of screens.

        It is no new one then: the next is held against the same. So nothing is ever off by more than `SAME`.
        """
        if self._shown is None or self._open or self._shown[0].shape != pixels.shape:
            return None
        before, shown = self._shown
        few = (slice(None, None, FEW),) * 2
        alike = self.smoothing > 0 and _contrast(pixels) >= CONTRAST
        if np.abs(np.subtract(before[few], pixels[few], dtype=np.int16)).max() > (SAME if alike else 0):  # as nearly always
            return None
        apart = np.abs(np.subtract(before, pixels, dtype=np.int16))
        return shown if not apart.any() or (alike and apart.max() <= SAME and apart.mean() <= AGAIN) else None

    def begin(self, pixels: np.ndarray) -> None:
        """A frame (H, W, 3) uint8 begins: was there a cut before it, and how has the picture moved?"""
        if self._open:  # nobody has painted the one before, and half of what is kept is of that
            self._forget()
        self._part, self._now, self._seen, self._sources, self._open = 0, pixels, pixels, None, True
        self._small = min(pixels.shape[:2]) < SMALL * self.stride
        if self._before is None or not self.smoothing:
            return
        shift = motion(self._before, pixels) if self._before.shape == pixels.shape else None
        if shift is None or self._is_cut(pixels, shift):
            self.cuts += 1
            return self._forget()
        dense = flow.dense(self._before, pixels) if _misfit(self._before, pixels, shift) > EXACT else None
        camera = None if dense is None else flow.camera(dense, pixels, shift)
        if dense is None:
            moved = shift
        elif camera is None:
            moved = flow.shared(dense, shift)
        else:
            moved = flow.of_the_middle(camera, pixels.shape[:2])
        self._moved = (self._moved + moved) % PERIOD
        now, before = _soft(pixels), _soft(self._before) if self._softened is None else self._softened
        self._softened, self._sources = now, Sources(now, before, shift, dense, camera, self._stood)
        self._stood = self._sources.stands
        if self._mean is not None:
            weight = self._sources.alike * np.float32((1 + self.smoothing) / 2)  # twice as long as paintings are remembered
            mean, self._seen = denoising.denoised(pixels, self._sources.carried(self._mean, smooth=True), weight, self.place)
            self._mean = mean.astype(np.float16)

    def shown(self, frame: Image.Image) -> Image.Image:
        """What the network sees of the ``frame`` that has begun: with less noise, where it is known from those before."""
        frame = frame if self._seen is self._now else Image.fromarray(self._seen)
        return moved(frame, frame, self.part)

    def run(self, backend, pixels: np.ndarray, style: Style) -> np.ndarray:
        """Paint on the grid that moves along, with steady moments.

        A small frame (`SMALL`) is painted by its own, on its own grid: with those of all frames each would be in another
        of the painting's colours, and with its grid moved it is another picture.
        """
        if self._small or not (self.smoothing or self.fixed):
            return backend(pixels, style)
        name, empty = f"moments {self._part}", np.zeros((2, sum(style.channels)), np.float32)
        self._part += 1
        given, share = (self.fixed[name], 0.0) if self.fixed else (self._kept.get(name, empty), self._share(name))
        down, right = (0, 0) if style.has_regions else (shift % self.stride for shift in self.place)  # a region's γ and β have their place on the grid
        padded = np.pad(pixels, ((down, 0), (right, 0), (0, 0)), "symmetric") if down or right else pixels
        painted, own = backend.steered(padded, style, given, share, fine=self.fixed is not None)
        if not self.fixed:
            self._kept[name] = given + np.float32(share) * (own - given)
        return painted[down:, right:]

    def with_faces(self, frame: Image.Image, larger: Image.Image, painted: Image.Image, amount: float) -> Image.Image:
        """The painting of the frame that has begun, a copy of ``larger``, with the features of its faces, see `stylenorm.faces`."""
        followed = self._followed if self.smoothing else None  # none at the first frame, and behind a cut
        self._followed = followed or Followed()
        return self._followed(frame, larger, painted, amount, cut=followed is None)

    def people(self, frame: Image.Image, again: bool) -> Image.Image:
        """A mask of the people in the frame that has begun. again: it is the same as the one before, and none has."""
        followers = self._people if self.smoothing else None  # none at the first frame, and behind a cut
        self._people = followers or Followers()
        found = self._people(frame, again)
        self.somebody = bool(self.somebody) or any_in(found)
        return found

    def settle(self, style: Style) -> Style:
        """A style that is predicted from each frame, smoothed like the moments."""
        row = style.row()
        if self.fixed:
            if "style" not in self.fixed:
                raise StyleError("these moments are of a stream at full strength; survey the frames at the strength that they are painted at")
            row = self.fixed["style"]
        elif self.smoothing:
            before = self._kept.get("style", row)
            row = self._kept["style"] = before + np.float32(self._share("style")) * (row - before)
        return style.with_row(row)

    def end(self, painted: np.ndarray) -> np.ndarray:
        """The frame's painting (H, W, 3) uint8, with the last one blended in where the frame shows the same."""
        self._open, self._shown = False, (self._now, painted)
        if not self.smoothing:
            return painted
        result = painted.astype(np.float32)
        if self._sources is not None and self._painted.shape == painted.shape:
            self._blend(result)
        if self._seen is self._now:
            self._mean = self._now
        self._before, self._painted = self._now, result.astype(np.float16)
        self._shown = self._now, np.clip(result + 0.5, 0, 255).astype(np.uint8)
        return self._shown[1]

    def _share(self, name: str) -> float:
        return 1 - self.smoothing if name in self._kept else 1.0

    def _is_cut(self, pixels: np.ndarray, shift: tuple[int, int]) -> bool:
        pairs = []
        for here, there in (_overlap(each, pixels.shape) for each in {shift, (0, 0)}):  # it may be the shift of something large
            seen, before = _thumbnail(pixels[here]), _thumbnail(self._before[there])
            pairs.append((float(np.abs(seen - before).mean()), seen, before))
        change, seen, before = min(pairs, key=lambda pair: pair[0])
        usual = CUT_RATIO * self._change
        faint = max(FAINT_CUT, CUT * _contrast(pixels) / CONTRAST)
        cut = change > max(CUT, usual) or (change > max(faint, usual) and not _resemble(seen, before))
        self._change += 0.2 * (change - self._change)
        return cut

    def _blend(self, result: np.ndarray) -> None:
        """Into ``result``: for each place, the last painting from there or from where it, or all of the picture, has moved from."""
        source = self._sources.carried(self._painted)
        source -= result
        source *= (self.smoothing * self._sources.alike)[..., None]
        if flow.opencv():
            result[:] = flow.vivid(result + source, result)
        else:
            result += source


class Sources:
    """Where each place of a frame was in the frame before, and how sure that is.

    The first of several motions that brings it nearest, or nearly so: the camera's, a shift, none, one of its own. So plain ground, where
    each does as well, goes along with most of the picture, unless what there is to be seen on it stands: it is a wall behind somebody.

    now, before: the frames (H, W, 3) uint8, softened. shift: what `motion` found. dense, camera: what `flow.dense` and `flow.camera` gave.
    stood: whether plain ground stood in the frame before, for it goes on so in doubt.
    """

    def __init__(
        self, now: np.ndarray, before: np.ndarray, shift: tuple[int, int], dense: np.ndarray | None, camera: np.ndarray | None, stood: bool
    ) -> None:
        self._now, self._before = now, before
        self._least = np.full(now.shape[:2], OTHER, np.float32)
        self._found: list[tuple[tuple | np.ndarray, np.ndarray]] = []  # parts of both frames, or places in the one before, and where these serve
        exact = camera is None or flow.is_shift(camera, shift)
        most = flow.moved_by(shift) if exact else camera
        self.stands = _nearer_by_standing(now, before, most) > (GOING if stood else STANDING)
        rigid = [shift] if exact else [None, shift]  # None: the camera's
        for each in dict.fromkeys([(0, 0), *rigid] if self.stands else [*rigid, (0, 0)]):
            by = STILL if self._found else 0  # the first serves in doubt
            if each is None:
                self._try(flow.everywhere(camera, now.shape[:2]), by)
            else:
                self._shifted(each, by)
        if dense is not None:
            self._try(dense, BETTER)
        same = _same(now, self._least)
        other = same * (OTHER / SAME)
        self.alike = np.clip((other - self._least) / (other - same), 0, 1)  # (H, W) float32: 1 where the frame shows what the one before did
        del self._now, self._before, self._least

    def _shifted(self, shift: tuple[int, int], by: float) -> None:
        """Take a shift wherever it brings what is nearer by more than ``by`` levels."""
        here, there = _overlap(shift, self._now.shape)
        apart = _apart(self._now[here], self._before[there])
        better = apart + by < self._least[here]
        np.copyto(self._least[here], apart, where=better)
        self._found.append(((here, there), better))

    def _try(self, motion: np.ndarray, by: float) -> None:
        """The same with a flow."""
        places = flow.sources(motion)
        apart = np.where(flow.outside(places), OTHER, _apart(self._now, flow.carried(self._before, places)))
        better = apart + np.float32(by) < self._least
        np.copyto(self._least, apart, where=better)
        self._found.append((places, better))

    def carried(self, picture: np.ndarray, smooth: bool = False) -> np.ndarray:
        """A picture (H, W, 3) of the frame before, as it lies in this one, float32; 0 where that has no source.

        smooth: between its pixels it is blurred rather than sharpened, for pictures that are carried on and on.
        """
        picture = picture.astype(np.float32)
        found = np.zeros_like(picture)
        for source, where in self._found:
            if isinstance(source, tuple):
                flow.put(found[source[0]], picture[source[1]], where)
            else:
                flow.put(found, flow.carried(picture, source, smooth), where)
        return found


class Stream:
    """Called with one frame after another, each a PIL image, an array or a path; gives their paintings, "RGB".

    paint: paints a frame by a `Steady` or a `Pool`, whose ``run`` and ``settle`` it calls. together: what a `Pool` takes. check: called with
    the first frame, and with each that is of another size than the one before. size: longer side of the paintings in px, else the frame's.
    paint_at: see `Stylizer.stylize`; all that is kept from frame to frame is then of that size.
    Where ``even`` is set, and that side is even, the other one is made so, for a file in which four pixels share a colour.
    aspect: of a frame's pixels (width / height), where the paintings are to have square ones; 1 leaves them as they are.
    box: what black bars leave of a frame as it comes, see `stylenorm.bars`; it alone is painted, unless the frame fills them.
    of_regions: whether the style differs from place to place, and so is for whole frames.
    strength: of ``paint``, which sees to it; here it says what of a photograph comes back where its copy is painted.
    layers: streams of other styles, whose paintings lie over this one's where their masks are white.
    mask: where frames are painted; elsewhere they stay as they are, "people" or "background" to find them in each. faces: how much of their features stays. For both see `Stylizer.stylize`.
    """

    even, box, of_regions, aspect = False, None, False, 1

    def __init__(
        self,
        paint: Callable[[Image.Image, Steady | Pool], Image.Image],
        together: Callable,
        check: Callable[[Image.Image], None],
        steady: Steady,
        preserve_color: bool = False,
        size: int | None = None,
        paint_at: int | str | None = None,
        mask: object = None,
        faces: float = 0.0,
        layers: Sequence[Stream] = (),
        strength: float = 1.0,
    ) -> None:
        self._layers, self._strength = layers, strength
        self._mask, self._inside, self._faces, self._shown = mask, None, faces, None
        self._paint, self._check, self._preserve_color, self._size, self._paint_at = paint, check, preserve_color, size, paint_at
        self.steady = steady
        self._pool = Pool(together)
        self.size: tuple[int, int] | None = None  # (width, height) of the last painting

    def __call__(self, frame: Source, mask: object = None, layer_masks: Sequence[object] = ()) -> Image.Image:
        """mask: of this frame alone, in place of the stream's. layer_masks: the same of its layers, or None for each that keeps its own."""
        given = _read(frame)
        whole = squared(given, self.aspect, self.even)
        frame = self._sized(whole)
        box, inner, larger = None, frame, larger_of(frame, whole)
        if self.box is not None and bars.is_outside_black(given, self.box):
            box = bars.scaled(self.box, given.size, frame.size)
            inner, larger = frame.crop(box), larger.crop(bars.scaled(self.box, given.size, larger.size))
        small = self._small(inner)
        for stream in (self, *self._layers):
            stream._begin(small)
        seen = Seen(frame, find=lambda frame: self.steady.people(frame, self._shown is not None))
        masks = self._masks(frame, seen, mask, *layer_masks)

        def paint(stream: Stream, part: Image.Image | None) -> Image.Image:
            stream.steady.part = part
            painted = stream._next(small, inner, larger)
            if box is None:
                return painted
            whole = frame.copy()
            whole.paste(painted, box)
            return whole

        return self._composed(frame, masks, self._parts(masks, box, small.size), paint)

    def _masks(self, frame: Image.Image, seen: Seen, mask: object = None, *others: object) -> list[Image.Image | None]:
        """The stream's, and then those of its layers, at the frame's size. mask, others: see `__call__`."""
        streams = (self, *self._layers)
        inside, *there = [stream._inside_of(frame, seen, own) for stream, own in zip_longest(streams, (mask, *others))]
        return [inside, *(mask or mask_levels(None, frame.size) for mask in there)]  # which says what a mask is

    def _parts(self, masks: Sequence[Image.Image | None], box: tuple[int, int, int, int] | None, size: tuple[int, int]) -> list[Image.Image | None]:
        """Where the painting of each layer is to be seen, of what is painted, which is of ``size``."""
        inside, *layers = masks if box is None else [m and m.crop(box) for m in masks]
        return shown(layers, inside, size)

    def _composed(
        self, frame: Image.Image, masks: Sequence[Image.Image | None], parts: Sequence[Image.Image | None], paint: Callable
    ) -> Image.Image:
        """The paintings of all layers, one over the other, inside the mask. paint: called with a stream and its part."""
        painted = paint(self, parts[0])
        for layer, there, part in zip(self._layers, masks[1:], parts[1:]):
            painted = painted_inside(paint(layer, part), painted, there)
        return painted if masks[0] is None else painted_inside(painted, frame, masks[0])

    def _inside_of(self, frame: Image.Image, seen: Seen, mask: object = None) -> Image.Image | None:
        mask = self._mask if mask is None else mask
        if mask is not self._mask or is_word(mask):
            return mask_levels(seen(mask), frame.size)
        if mask is not None and (self._inside is None or self._inside.size != frame.size):
            self._inside = mask_levels(mask, frame.size)
        return self._inside

    def _begin(self, small: Image.Image) -> None:
        pixels = np.array(small)
        self._shown = self.steady.again(pixels)
        if self._shown is None:
            self.steady.begin(pixels)

    def _next(self, small: Image.Image, frame: Image.Image, larger: Image.Image) -> Image.Image:
        """The painting of the frame that has begun, of which ``small`` is a copy, and ``larger`` the original."""
        if self._shown is None:
            painted = self._paint(small, self.steady)
            painted = self.steady.with_faces(small, larger, painted, self._faces) if self._faces else painted
            self._shown = self.steady.end(np.asarray(self._colored(small, painted)))
        return self._whole(Image.fromarray(self._shown), small, frame)

    def survey(self, frame: Source, mask: object = None, layer_masks: Sequence[object] = ()) -> Image.Image:
        """Take note of a frame's moments, for `pooled`. Returns how it would be painted by itself. mask, layer_masks: as where it is painted."""
        whole = squared(_read(frame), self.aspect, self.even)
        frame = self._sized(whole)
        small, larger = self._small(frame), larger_of(frame, whole)
        masks = self._masks(frame, Seen(frame, find=Followers()), mask, *layer_masks)
        return self._composed(frame, masks, self._parts(masks, None, small.size), lambda stream, part: stream._surveyed(small, frame, larger, part))

    def _surveyed(self, small: Image.Image, frame: Image.Image, larger: Image.Image, part: Image.Image | None) -> Image.Image:
        self._pool.begin()
        self._pool.part = part
        painted = self._paint(small, self._pool)
        painted = with_features(painted, small, faces_of(small, larger), self._faces) if self._faces else painted
        return self._whole(self._colored(small, painted), small, frame)

    def pooled(self) -> dict[str, np.ndarray]:
        """The moments of all surveyed frames together, for the ``fixed`` of another stream."""
        return joined(stream._pool.pooled() for stream in (self, *self._layers))

    @property
    def state(self) -> dict[str, np.ndarray]:
        """All that is kept from frame to frame, for `restore`."""
        return joined(stream.steady.state for stream in (self, *self._layers))

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from the `state` of a stream with the same settings. Raises `StyleError` for what is none."""
        try:
            for stream, own in zip((self, *self._layers), split(state), strict=True):
                stream.steady.restore(own)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise StyleError(f"a stream goes on from the state of one with the same settings, which {in_short(state)} is not") from None

    def _colored(self, frame: Image.Image, painted: Image.Image) -> Image.Image:
        return recolored(painted, frame) if self._preserve_color else painted

    def _sized(self, frame: Image.Image) -> Image.Image:
        if self._size is not None:
            frame = fit_even(frame, self._size) if self.even and self._size % 2 == 0 else fit(frame, self._size)
        if self.size != frame.size:
            seen = Seen(frame, find=lambda frame: Image.new("L", frame.size))  # a mask of no use is told at once
            for stream in (self, *self._layers):
                stream._check(self._small(frame))
                stream._inside_of(frame, seen)
            self.size = frame.size
        return frame

    def _small(self, frame: Image.Image) -> Image.Image:
        side = side_to_paint(frame.size, self._paint_at)
        return frame if side is None else fit(frame, side)

    def _whole(self, painted: Image.Image, small: Image.Image, frame: Image.Image) -> Image.Image:
        return painted if small.size == frame.size else enlarge(painted, small, frame, self._strength)


class PeopleWatch:
    """Finds the people of moving pictures: as `stylenorm.find_people` does, but what it finds holds still from frame to frame.

    ``watch(frame)``, for each frame of one film in its turn: a mask of it, upright and as large as it, mode "L", 255 where people
    are. frame: a path, a PIL image or an array. Raises what `find_people` raises.

    somebody: whether anybody was found so far; None before the first frame.
    """

    def __init__(self) -> None:
        self._steady = Steady(SMOOTHING, stride=1)

    def __call__(self, frame: Source) -> Image.Image:
        frame = _read(frame)
        small = np.asarray(fit(frame, WATCHED))
        self._steady.begin(small)  # behind a cut nobody is known
        found = self._steady.people(frame, again=False)
        self._steady.end(small)
        return found

    @property
    def somebody(self) -> bool | None:
        return self._steady.somebody


def squared(frame: Image.Image, aspect: float, even: bool) -> Image.Image:
    """A frame of pixels that are ``aspect`` times as wide as high, stretched until they are square. even: no side that is even becomes odd."""
    if aspect == 1:
        return frame
    stretched = (frame.width * max(1, aspect), frame.height * max(1, 1 / aspect))
    size = tuple(2 * round(s / 2) if even and old % 2 == 0 else round(s) for s, old in zip(stretched, frame.size))
    return frame.resize(size, Image.Resampling.LANCZOS)


def joined(parts: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What the layers of a stream keep, in one; names of those above the first begin with their number."""
    return {f"{k}|{name}" if k else name: value for k, part in enumerate(parts) for name, value in part.items()}


def split(whole: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """The parts that were `joined`."""
    count = 1 + max((int(name.partition("|")[0]) for name in whole if "|" in name), default=0)
    parts: list[dict[str, np.ndarray]] = [{} for _ in range(count)]
    for name, value in whole.items():
        number, bar, own = name.partition("|")
        parts[int(number) if bar else 0][own if bar else name] = value
    return parts


def split_moments(fixed: Mapping[str, np.ndarray] | None) -> list:
    """`split` of the ``fixed`` of a stream, which may be none, or not what it should be."""
    return split(fixed) if isinstance(fixed, Mapping) else [fixed]


def _read(frame) -> Image.Image:
    plain = isinstance(frame, Image.Image) and frame.mode == "RGB" and not frame.info  # of a file, it may lie on its side
    return frame if plain else read_picture(frame).rgb


def motion(before: np.ndarray, now: np.ndarray) -> tuple[int, int]:
    """(dy, dx) px such that ``now[y, x]`` shows what ``before[y + dy, x + dx]`` showed; (0, 0) where no one shift does.

    Phase correlation (Kuglin and Hines 1975), and the shift counts only if it explains the frame clearly better than none does.
    """
    k = 1
    while before.shape[0] * before.shape[1] > MOTION_PIXELS * k * k:
        k *= 2
    a, b = (np.asarray(Image.fromarray(p).convert("L").reduce(k), np.float32) for p in (before, now))
    height, width = a.shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    cross = np.fft.rfft2((a - a.mean()) * window) * np.conj(np.fft.rfft2((b - b.mean()) * window))
    peak = np.fft.irfft2(cross / (np.abs(cross) + 1e-6), (height, width)).argmax()
    dy, dx = (((int(i) + n // 2) % n - n // 2) * k for i, n in zip(divmod(int(peak), width), (height, width)))
    steps = range(-max(1, k - 1), max(1, k - 1) + 1)
    found = {(dy + i, dx + j) for i in steps for j in steps}
    found = {s for s in found if abs(s[0]) < before.shape[0] // 2 and abs(s[1]) < before.shape[1] // 2}
    calm = [np.asarray(Image.fromarray(p).filter(ImageFilter.BoxBlur(NOISY))) for p in (before, now)]  # noise fits at no shift
    best = min(sorted(found), key=lambda s: _misfit(*calm, s), default=(0, 0))
    nearer = _misfit(*calm, best) <= _misfit(*calm, (0, 0))  # else it is the shift of something that stands out, and most of the frame stands
    return best if nearer and _explains(*calm, best) else (0, 0)


def _explains(before: np.ndarray, now: np.ndarray, shift: tuple[int, int]) -> bool:
    """Whether ``now`` is clearly better explained by the shift than by none: where they differ most, which is not on plain ground."""
    here, there = _overlap(shift, now.shape)
    still, moved, seen = (p[::4, :, 1].astype(np.int16) for p in (before[here], before[there], now[here]))
    apart = np.abs(moved - still)
    where = apart >= max(1, np.quantile(apart, TELLING))
    return bool(np.abs(seen - moved)[where].sum() < 0.8 * np.abs(seen - still)[where].sum())


def _misfit(before: np.ndarray, now: np.ndarray, shift: tuple[int, int]) -> float:
    """Mean difference of the green channel, over every fourth row."""
    here, there = _overlap(shift, now.shape)
    return float(np.abs(now[here][::4, :, 1].astype(np.int16) - before[there][::4, :, 1]).mean())


def _nearer_by_standing(now: np.ndarray, before: np.ndarray, motion: np.ndarray) -> float:
    """By how many levels plain ground is nearer to where it was than to where ``motion``, (2, 3) as `flow.camera` has it, would have taken it."""
    height, width = now.shape[:2]
    y, x = np.mgrid[:height:FEW, :width:FEW]
    column, row = (np.rint(a * x + b * y + c).astype(int) for a, b, c in motion)
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    seen, still, moved = (p.astype(np.int16) for p in (now[y[inside], x[inside]], before[y[inside], x[inside]], before[row[inside], column[inside]]))
    plain = np.abs(still - moved).max(1) <= SAME  # the two look alike
    nearer = np.abs(moved - seen).max(1) - np.abs(still - seen).max(1)
    return float(nearer[plain].mean()) if plain.any() else 0.0


def _same(now: np.ndarray, apart: np.ndarray) -> float:
    """Up to how many levels two places count as alike: fewer than `SAME` in fog and at night, for the network evens out contrast.

    now: the frame, softened. apart: (H, W), by how much its places are off those before; noise, which all of them have, stays alike.
    """
    contrast = _contrast(now)
    if contrast >= CONTRAST:
        return SAME
    noise = min(NOISE * float(np.median(apart[::FEW, ::FEW])), MOST_NOISE * contrast)
    return min(SAME, max(SAME * contrast / CONTRAST, noise, FAINT))


def _contrast(pixels: np.ndarray) -> float:
    """Levels: the deviation of that channel which has most."""
    return float(pixels[::FEW, ::FEW].std((0, 1)).max())


def _resemble(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether thumbnails show the same thing, be one of them darker."""
    a, b = (x - x.mean((0, 1)) for x in (a, b))
    return float((a * b).sum()) > RESEMBLING * float((a * a).sum() * (b * b).sum()) ** 0.5


def _overlap(shift: tuple[int, int], shape: tuple[int, ...]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where both frames have the same thing: in the new one, and in the one before."""
    spans = [(slice(max(0, -d), n - max(0, d)), slice(max(0, d), n - max(0, -d))) for d, n in zip(shift, shape)]
    return tuple(s[0] for s in spans), tuple(s[1] for s in spans)


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), np.float32)


def _soft(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.BoxBlur(1)))


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(H, W) float32: the largest difference of a channel, averaged over 7 x 7 px."""
    difference = ImageChops.difference(*(Image.fromarray(np.ascontiguousarray(p)) for p in (a, b)))
    red, green, blue = difference.split()
    largest = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return np.asarray(largest.filter(ImageFilter.BoxBlur(3)), np.float32)
