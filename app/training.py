"""A training in a thread of its own, watched and stopped from the page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Watched:
    """What is known of a running training. curve: (step, style loss, content loss)."""

    curve: list[tuple[int, float, float]] = field(default_factory=list)
    latest: object = None
    result: object = None
    error: BaseException | None = None


def watch(
    work: Callable[[Callable], object], stop: threading.Event, every: float = 1.0, record: Callable | None = None
) -> Iterator[Watched]:
    """Run ``work(progress)`` in a thread and yield what is known about once in ``every`` seconds, and at the end.

    When nobody reads any more, ``stop`` is set and the thread is waited for.
    """
    seen = Watched()

    def progress(update) -> None:
        seen.latest = update
        seen.curve.append((record or losses)(update))

    def run() -> None:
        try:
            seen.result = work(progress)
        except BaseException as error:  # told to the reader, in its thread
            seen.error = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(every)
            if seen.latest is not None and thread.is_alive():
                yield seen
        if seen.error is not None:
            raise seen.error
        yield seen
    finally:
        stop.set()
        deadline = time.monotonic() + 60
        while thread.is_alive() and time.monotonic() < deadline:
            thread.join(0.1)


def losses(update) -> tuple[int, float, float]:
    return update.step, update.style, update.content


def thinned(curve: list[tuple], most: int = 200) -> list[tuple]:
    """At most about ``most`` points, the last one among them."""
    step = max(1, len(curve) // most)
    return curve[::step] + (curve[-1:] if (len(curve) - 1) % step else [])
