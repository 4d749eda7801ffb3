"""`Newest`: what a visitor wants to see now. Gradio tells twice of an upload that replaces another, and asks for both again."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from .files import MOST_VISITORS

MOST_TOLD = 16  # uploads of a visitor in a slot that are remembered


@dataclass
class Wanted:
    """told: the uploads in each slot, the latest last. asked: what was painted last, or is being painted."""

    told: dict[str, deque] = field(default_factory=dict)
    asked: object = None


class Newest:
    """Safe to use from several threads at once. slot: what an upload is for, such as "photo".

    Of a program, which tells nothing, everything that it asks for is new, and nothing is replaced.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: OrderedDict[str, Wanted] = OrderedDict()

    def tell(self, visitor: str, slot: str, path: str | None) -> bool:
        """``path``, or nothing, is in ``slot`` now. Returns whether something else was there before."""
        with self._lock:
            wanted = self._wanted[visitor] = self._wanted.pop(visitor, None) or Wanted()
            told = wanted.told.setdefault(slot, deque([None], MOST_TOLD))
            if path == told[-1]:
                return False
            told.append(path)
            while len(self._wanted) > MOST_VISITORS:
                self._wanted.popitem(last=False)
            return True

    def replaced(self, visitor: str, slot: str, path: str | None) -> bool:
        """Whether ``path`` was in ``slot``, and another one is by now."""
        with self._lock:
            told = self._wanted.get(visitor, Wanted()).told.get(slot, ())
            return path in told and path != told[-1]

    def ask(self, visitor: str, what: object) -> bool:
        """``visitor`` asks to see ``what``. Returns whether that is another than what was asked for last."""
        with self._lock:
            wanted = self._wanted.get(visitor, Wanted())
            before, wanted.asked = wanted.asked, what
            return what != before

    def unseen(self, visitor: str, what: object) -> None:
        """``what`` was not shown after all, and may be asked for again."""
        with self._lock:
            wanted = self._wanted.get(visitor, Wanted())
            if wanted.asked == what:
                wanted.asked = None

    def forget(self, visitor: str) -> None:
        """``visitor`` closed the page."""
        with self._lock:
            self._wanted.pop(visitor, None)
