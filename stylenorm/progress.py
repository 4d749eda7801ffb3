"""A training run as people and scripts watch it: a bar, a line every ten seconds, or a JSON object a step."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import deque
from contextlib import contextmanager


@contextmanager
def watching(as_json: bool):
    """Yields what to call with each `stylenorm.training.Progress`: a bar, lines every ten seconds, or JSON lines."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    recent: deque = deque(maxlen=50)  # records of one run; a comparison has several, one after the other
    last_line, named = -math.inf, set()

    def text(record) -> str:
        total, content, style = (sum(getattr(r, key) for r in recent) / len(recent) for key in ("total", "content", "style"))
        loss = f"loss {total:.2f} (content {content:.2f}, style {style:.3f})"
        return f"{loss}  {record.images_per_second:.1f} images/s  {duration(record.seconds_left)} left"

    def note(record) -> None:
        if recent and record.step <= recent[-1].step:
            recent.clear()
        recent.append(record)
        for complaint in record.broken:
            if complaint not in named:
                named.add(complaint)
                print(f"stylenorm: passed over: {complaint}", file=sys.stderr)

    def plain(record) -> None:
        nonlocal last_line
        note(record)
        if as_json:
            print(json.dumps(vars(record)), flush=True)
        elif time.monotonic() - last_line > 10 or record.step == record.steps:
            print(f"step {record.step}/{record.steps}  {text(record)}", flush=True)
            last_line = time.monotonic()

    if as_json or not console.is_terminal:
        yield plain
        return

    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("step {task.completed}/{task.total}"), BarColumn(None), TextColumn("{task.description}")
    with Progress(*columns, console=console, expand=True) as bar:
        task = bar.add_task("starting", total=None)

        def draw(record) -> None:
            note(record)
            bar.update(task, completed=record.step, total=record.steps, description=text(record))

        yield draw


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
