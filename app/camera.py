"""`Camera`: what the tab for the camera does, without the page."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace

from PIL import Image

from .library import ImageError, Stream
from .studio import Studio, Wish

SIDES = (256, 384, 512, 640)  # px, longer side at which pictures of a camera are painted
MOST_BYTES = 4_000_000  # of one picture
MOST_STREAMS = 16  # whose memory is kept, 4 MB each; who comes back later begins anew
STEADY = 0.7  # share of the past where nothing changes
PACE = 0.1  # weight of the latest picture in the mean of how many a second there are
PAUSE = 2.0  # seconds; a gap that is longer is no pace


@dataclass
class Shown:
    """One visitor's stream. asked: what it was made for."""

    asked: tuple = ()
    stream: Stream | None = None
    apart: float | None = None  # seconds between two pictures
    last: float = 0.0
    turn: threading.Lock = field(default_factory=threading.Lock)


class Camera:
    """Paints what visitors' cameras see, picture after picture, with the styles of a studio. Safe to use from several threads at once."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._lock = threading.Lock()
        self._shown: OrderedDict[str, Shown] = OrderedDict()

    def paint(self, visitor: str, picture: bytes | str | None, wish: Wish, steady: bool) -> tuple[Image.Image, float | None]:
        """(the painting, paintings a second lately or None at first).

        steady: what holds still stays the same, which takes longer. A wish that is another than before begins a new stream.
        """
        if not picture:
            raise ImageError("switch the camera on first")
        if isinstance(picture, bytes) and len(picture) > MOST_BYTES:
            raise ImageError(f"a picture of the camera has at most {MOST_BYTES / 1e6:g} MB")
        if wish.size not in SIDES:
            raise ImageError(f"the size can be {', '.join(map(str, SIDES[:-1]))} or {SIDES[-1]} px, not {wish.size}")
        shown = self._of(visitor)
        with shown.turn:
            asked = (replace(wish, styles=tuple(map(tuple, wish.styles))), steady)
            if shown.asked != asked:
                shown.asked, shown.stream = (), self._stream(visitor, wish, steady)
                shown.asked = asked
            painted = shown.stream(self.studio.read(picture, "the camera's picture"))
            return painted, _pace(shown)

    def leave(self, visitor: str) -> None:
        """``visitor`` closed the page."""
        with self._lock:
            self._shown.pop(visitor, None)

    def _of(self, visitor: str) -> Shown:
        with self._lock:
            shown = self._shown[visitor] = self._shown.pop(visitor, None) or Shown()
            while len(self._shown) > MOST_STREAMS:
                self._shown.popitem(last=False)
            return shown

    def _stream(self, visitor: str, wish: Wish, steady: bool) -> Stream:
        self.studio.shelf.hold(visitor, "camera style", [wish.painting, wish.style_file])
        return self.studio.stylizer.stream(
            self.studio.style(wish),
            strength=wish.strength,
            preserve_color=wish.keep_colors,
            size=wish.size,
            smoothing=STEADY if steady else 0.0,
            faces=wish.faces,
            mask=wish.mask,
        )


def _pace(shown: Shown) -> float | None:
    """Paintings a second, the latest counting most."""
    now = time.perf_counter()  # `time.monotonic` stands still for 16 ms on Windows, before Python 3.13
    gap, shown.last = now - shown.last, now
    if gap > PAUSE:
        shown.apart = None
        return None
    shown.apart = gap if shown.apart is None else shown.apart + PACE * (gap - shown.apart)
    return 1 / shown.apart
