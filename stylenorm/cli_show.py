"""How a long run over many files is shown: a bar, lines, or JSON lines, a table at the end; and how Ctrl-C ends it."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from stylenorm.cli_parts import complain, show_table
from stylenorm.errors import counted, one_line
from stylenorm.manifest import NAME
from stylenorm.progress import duration


@contextmanager
def stopping(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C sets ``stop``, and the second does what it always does."""
    before = signal.getsignal(signal.SIGINT)
    here = threading.current_thread() is threading.main_thread() and before is signal.default_int_handler

    def once(*_) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    if here:
        signal.signal(signal.SIGINT, once)
    try:
        yield
    finally:
        if here:
            signal.signal(signal.SIGINT, before)


class Show:
    """Tells people, or scripts, how a batch goes. done, failed: paintings so far."""

    unit = "paintings"

    def __init__(self, quiet: bool, as_lines: bool) -> None:
        self.quiet, self.as_lines = quiet, as_lines
        self.done = self.failed = self.total = 0
        self._out, self._redirected, self._draw = sys.stdout, redirect_stdout(sys.stderr), None
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Show:
        if self.as_lines:
            self._redirected.__enter__()  # whatever a library prints
        return self

    def __exit__(self, *trouble) -> None:
        if self.as_lines:
            self._redirected.__exit__(*trouble)

    def say(self, line: str) -> None:
        if not self.quiet and not self.as_lines:
            print(one_line(line), file=self._out, flush=True)

    def plan(self, tree, plan, total: int) -> None:
        self.total = total
        for sentence in tree.unread:
            complain(sentence)
        for sentence in tree.left_out:
            self.say(sentence)
        for name, output, whose in plan.renamed[:10]:
            self.say(f"{name} becomes {output}, because {whose} has that name")
        if len(plan.renamed) > 10:
            self.say(f"and so {'does' if len(plan.renamed) == 11 else 'do'} {len(plan.renamed) - 10} more, by the rule in stylenorm batch --help")
        if plan.strange:
            told = "was there before" if len(plan.strange) == 1 else f"and {len(plan.strange) - 1} more were there before"
            them = "it" if len(plan.strange) == 1 else "them"
            complain(f"{plan.strange[0]} {told}, and no batch has noted painting {them}; what is there stays, --overwrite replaces {them}")
        if plan.others:
            (name, source), count = plan.others[0], len(plan.others) - 1
            more = f", and {counted(count, 'more is', 'more are')} of another folder's" if count else ""
            complain(f"{name} is the painting of {source}{more}; what is there stays: give another folder, or --overwrite to replace it")
        there = f", {counted(plan.there, 'is', 'are')} there already" if plan.there else ""
        self.say(f"{counted(len(tree.photos), 'photograph')}, {counted(total, 'painting')} to do{there}")

    @contextmanager
    def bar(self) -> Iterator[None]:
        """A bar with rate and time left on a terminal."""
        from rich.console import Console

        self._started = self._told = time.monotonic()
        console = Console(file=self._out, highlight=False, markup=False)
        if self.quiet or self.as_lines or not console.is_terminal:
            yield
            return
        from rich.progress import BarColumn, Progress, TextColumn

        columns = TextColumn("{task.completed}/{task.total}"), BarColumn(None), TextColumn("{task.description}")
        with Progress(*columns, console=console, expand=True) as bar:
            task = bar.add_task("starting", total=self.total)
            self._draw = lambda: bar.update(task, completed=self.done + self.failed, description=self.pace())
            yield
        self._draw = None

    def pace(self) -> str:
        so_far, seconds = self.done + self.failed, time.monotonic() - self._started
        rate = so_far / max(seconds, 1e-9)
        failed = f"{self.failed} failed  " if self.failed else ""
        return f"{failed}{rate:.2f} {self.unit}/s  {duration((self.total - so_far) / rate if rate else 0)} left"

    def line(self, line: dict) -> None:
        if line["kind"] == "done":
            self.done += 1
            if not self.quiet and "pages" in line:
                complain(f"{line['input']}: only the first of its {line['pages']} pages is painted; save each as a file of its own")
            if not self.quiet and "frames" in line:
                complain(f"{line['input']}: only the first of its {line['frames']} frames is painted; --format webp paints all")
        else:
            self.failed += 1
            complain(line["error"])
        if self.as_lines:
            print(json.dumps(line), file=self._out, flush=True)
        elif self._draw:
            self._draw()
        elif time.monotonic() - self._told > 10:
            self._told = time.monotonic()
            self.say(f"{self.done + self.failed}/{self.total}  {self.pace()}")

    def end(self, end: dict, output: Path) -> None:
        if self.as_lines:
            print(json.dumps(end), file=self._out, flush=True)
        elif not self.quiet:
            took = duration(end["seconds"])
            rows = [("done", str(end["done"]), took), ("skipped", str(end["skipped"]), "was there already" if end["skipped"] == 1 else "were there already")]
            rows += [("failed", str(end["failed"]), f"named in {output / NAME}" if end["failed"] else "")]
            rows += [("unread", str(n := len(end["unread"])), "folder" if n == 1 else "folders")] if end["unread"] else []
            rows += [("left", str(end["left"]), "the same command goes on")] if end["left"] else []
            show_table(("paintings", "number", ""), rows)
        if end["interrupted"]:
            more = "; the same command goes on" if end["left"] else ""
            complain(f"stopped after {counted(end['done'], 'painting')}, {counted(end['left'], 'is', 'are')} left{more}")
