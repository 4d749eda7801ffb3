"""`Stops`: what visitors want stopped, be it at work or still waiting for its turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Wanted:
    """What a visitor asked for: how many requests are at work, and whether they shall stop."""

    at_work: int = 0
    stop: threading.Event = field(default_factory=threading.Event)


class Stops:
    """Safe to use from several threads at once. what: the kind of work, such as "folder"."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[tuple[str, str], Wanted] = {}

    def expect(self, visitor: str, what: str) -> None:
        """A request is about to stand in the queue. What was asked to stop before is none of its concern."""
        with self._lock:
            wanted = self._wanted.get((visitor, what))
            if wanted is None or wanted.stop.is_set():
                self._wanted[visitor, what] = Wanted()

    def refused(self, visitor: str, what: str) -> None:
        """What was expected came to nothing, such as a folder without a file: there is nothing to stop, unless something else is at work."""
        with self._lock:
            wanted = self._wanted.get((visitor, what))
            if wanted is not None and not wanted.at_work:
                del self._wanted[visitor, what]

    @contextmanager
    def work(self, visitor: str, what: str) -> Iterator[threading.Event]:
        """While a request is at work: the event that is set when it shall stop, perhaps before it began."""
        key = visitor, what
        with self._lock:
            wanted = self._wanted.setdefault(key, Wanted())
            wanted.at_work += 1
        try:
            yield wanted.stop
        finally:
            with self._lock:
                wanted.at_work -= 1
                if not wanted.at_work and self._wanted.get(key) is wanted:
                    del self._wanted[key]

    def ask(self, visitor: str, what: str) -> bool:
        """Stop it. Returns whether there is anything to stop."""
        with self._lock:
            wanted = self._wanted.get((visitor, what))
            if wanted is not None:
                wanted.stop.set()
            return wanted is not None

    def leave(self, visitor: str) -> None:
        """``visitor`` closed the page: stop and forget all."""
        with self._lock:
            for key in [key for key in self._wanted if key[0] == visitor]:
                self._wanted.pop(key).stop.set()
