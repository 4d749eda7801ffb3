"""A batch on the machines of a Ray cluster: one worker a GPU, or a few cores where there is none.

A worker reads, paints, encodes and writes under a draft's name (at a URL: puts in place). The one who started the
batch gives the drafts their names and is alone in writing the manifest, so that a worker can die at any moment: what
it had not told of is given to another one, and nothing appears twice.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stylenorm.batch_steps import (
    CANNOT_READ,
    NO_MORE_ROOM,
    Look,
    Task,
    done_line,
    encoded,
    failed_line,
    no_room,
    painted,
    publish,
    read_photo,
    short_of_memory,
    since,
    stage,
)
from stylenorm.catalog import network_file
from stylenorm.drafts import remove_drafts
from stylenorm.errors import StylenormError
from stylenorm.manifest import Manifest
from stylenorm.metadata import read_metadata
from stylenorm.places import UrlFolder

CORES = 4  # of a worker on a machine without a GPU
AT_ONCE = 3  # photographs in a worker: one is read while one is painted while one is written
TRIES = 3  # workers that one photograph may take with it before it is left out


@dataclass(frozen=True)
class Brush:
    """What a worker needs to paint. memory: of `Stylizer`. styles: `Style` by a look's label. options: of `Stylizer.stylize`."""

    weights: str | None
    network: str
    device: str
    backend: str
    memory: float | None
    styles: Mapping[str, object]
    options: Mapping[str, object]
    out: Path | UrlFolder
    quality: int


@dataclass(frozen=True)
class Result:
    """A painting as its worker tells of it. full: there is no more room. notices: what is to be said of it beside that."""

    line: dict
    draft: Path | None = None
    full: OSError | None = None
    notices: tuple[str, ...] = ()


class Worker:
    """Paints on some machine, in a process of its own. Several calls of ``paint`` at once overlap; painting does not."""

    def __init__(self, brush: Brush, cores: tuple[int, int] | None) -> None:
        self.brush, self.lock, self.stylizer = brush, threading.Lock(), None
        own = sorted(os.sched_getaffinity(0))[slice(*cores)] if cores and hasattr(os, "sched_setaffinity") else []
        if cores and len(own) == cores[1] - cores[0]:
            os.sched_setaffinity(0, own)  # OpenVINO takes all cores that it may

    def prepare(self) -> str:
        """Load the network; what it runs on, for people."""
        from stylenorm.engine import Stylizer

        if read_metadata(network_file(self.brush.weights), "network").get("hash") != self.brush.network:
            raise StylenormError(f"{platform.node()} has another network than this machine; give --weights on a shared path")
        brush = self.brush
        self.stylizer = Stylizer(brush.weights, device=brush.device, backend=brush.backend, memory=brush.memory)
        return self.stylizer.describe()

    def paint(self, task: Task) -> list[Result]:
        try:
            picture, facts = read_photo(task, self.brush.options.get("size"))
        except CANNOT_READ as error:
            return [Result(failed_line(task.photo, look, target, error)) for look, target in task.targets]
        return [self._one(task, look, target, picture, facts) for look, target in task.targets]

    def _one(self, task: Task, look: Look, target: str, picture, facts: dict) -> Result:
        brush, notices = self.brush, []
        try:
            with self.lock:
                started = time.perf_counter()
                options = {**brush.options, "notice": notices.append}
                image = painted(self.stylizer, picture, task.photo.path, brush.styles[look.label], options, brush.quality)
                seconds = {"paint_seconds": since(started)}
            started = time.perf_counter()
            data = encoded(image, str(brush.out / target), brush.quality)
            draft = stage(brush.out, target, data)
        except (*CANNOT_READ, RuntimeError) as error:
            if not short_of_memory(error):
                raise
            full = error if isinstance(error, OSError) and error.errno in NO_MORE_ROOM else None
            return Result(failed_line(task.photo, look, target, error), full=full, notices=tuple(notices))
        seconds["write_seconds"] = since(started)
        return Result(done_line(task.photo, look, target, facts, image.size, data, seconds), draft, notices=tuple(notices))


@dataclass(frozen=True)
class Slot:
    """A place for a worker. node: the machine's id. cores: which of it, from and to, or None with a GPU."""

    node: str
    cpus: float
    gpus: int = 0
    cores: tuple[int, int] | None = None


def find_slots(nodes: Sequence[Mapping], device: str) -> list[Slot]:
    """One for each GPU; on a machine without one, or for ``device`` "cpu", one for every `CORES` cores."""
    slots = []
    for node in nodes:
        has = node["Resources"] if node["Alive"] else {}
        cpus, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0)) if device in ("auto", "cuda") else 0
        if gpus:
            slots += [Slot(node["NodeID"], min(1.0, cpus / gpus), 1)] * gpus
        elif cpus and device != "cuda":
            each = min(CORES, cpus)
            slots += [Slot(node["NodeID"], each, cores=(n * each, n * each + each)) for n in range(cpus // each)]
    if not slots:
        raise StylenormError(f"the Ray cluster has no machine with {'a GPU' if device == 'cuda' else 'free cores'}; check --ray")
    return slots


@dataclass
class _Hand:
    """A worker as it is seen from here. calls: what it is at. ready: it has loaded the network."""

    slot: Slot
    actor: object
    first: object  # the reference to what `prepare` returns
    ready: bool = False
    calls: dict = field(default_factory=dict)


class Crew:
    """The workers of a cluster. ``with Crew(...) as crew: crew.start(stop)``, then iterate over ``crew.paint(...)``.

    say: called with what is to be said of a painting, as ``notice`` of `Stylizer.stylize` is.
    """

    def __init__(self, address: str, brush: Brush, say: Callable[[str], None] = lambda line: None) -> None:
        self.address, self.brush, self.say, self.hands, self.deaths = address, brush, say, [], 0
        self.fresh: deque[Task] = deque()
        self.suspects: deque[Task] = deque()  # they were there when a worker died, and are painted alone
        self.tries: dict[str, int] = {}
        self.litter: set[str] = set()  # folders in which a dead worker may have left a draft

    def __enter__(self) -> Crew:
        import ray

        self.ray, self.joined = ray, not ray.is_initialized()
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address == "local":
            quiet["include_dashboard"] = False
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it would tell its makers
        try:
            if self.joined:
                ray.init(self.address, **quiet)
            for slot in find_slots(ray.nodes(), self.brush.device):
                self.hands.append(self._hire(slot))
        except (OSError, ValueError, RuntimeError) as error:
            self.__exit__()
            told = str(error).strip().splitlines() or ["it does not answer"]
            raise StylenormError(f"no Ray cluster at {self.address} ({told[0]}); start one with ray start, or give --ray local") from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        for hand in self.hands:
            self.ray.kill(hand.actor)
        if not isinstance(self.brush.out, UrlFolder):
            for folder in self.litter:
                remove_drafts(self.brush.out / folder, growing=False)
        if self.joined:
            self.ray.shutdown()

    def start(self, stop: threading.Event) -> str:
        """Wait until the first worker can paint, and say what it runs on."""
        while not stop.is_set():
            for ref in self._done([hand.first for hand in self.hands]):
                self._take_first(ref)
            if ready := [hand for hand in self.hands if hand.ready]:
                return f"{self.ray.get(ready[0].first)}; {len(self.hands)} Ray workers"
        return "stopped"

    def paint(self, tasks: Sequence[Task], manifest: Manifest, stop: threading.Event) -> Iterator[dict]:
        """As `stylenorm.batch.paint_all`. Once ``stop`` is set, what is being painted is finished."""
        self.fresh.extend(tasks)
        while True:
            if stop.is_set():
                self.fresh.clear(), self.suspects.clear()
            self._feed()
            calls = {ref: hand for hand in self.hands for ref in hand.calls}
            if not calls and not self.fresh and not self.suspects:
                return
            for ref in self._done([*calls, *(hand.first for hand in self.hands if not hand.ready)]):
                if ref not in calls:
                    self._take_first(ref)
                elif ref in calls[ref].calls:  # its worker's death has not been told by another one
                    yield from self._take(calls[ref], ref, manifest)

    def _hire(self, slot: Slot) -> _Hand:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = NodeAffinitySchedulingStrategy(slot.node, soft=True)
        options = {"num_cpus": slot.cpus, "num_gpus": slot.gpus, "max_concurrency": AT_ONCE, "scheduling_strategy": where}
        actor = self.ray.remote(Worker).options(**options).remote(self.brush, slot.cores)
        return _Hand(slot, actor, actor.prepare.remote())

    def _done(self, refs: list) -> list:
        return self.ray.wait(refs, num_returns=len(refs), timeout=0.05)[0] or self.ray.wait(refs, timeout=0.2)[0]

    def _feed(self) -> None:
        for hand in self.hands:
            alone = any(task.photo.name in self.tries for task in hand.calls.values())
            while hand.ready and not alone and len(hand.calls) < AT_ONCE:
                if self.suspects and not hand.calls:
                    task, alone = self.suspects.popleft(), True
                elif self.fresh:
                    task = self.fresh.popleft()
                else:
                    break
                hand.calls[hand.actor.paint.remote(task)] = task

    def _take_first(self, ref) -> None:
        hand = next(hand for hand in self.hands if hand.first == ref)
        if not hand.ready and self._answer(ref) is not None:
            hand.ready = True
        elif not hand.ready:
            self.deaths += 1
            if self.deaths > TRIES * len(self.hands):
                raise StylenormError(
                    "the workers on the Ray cluster die before they can paint; install this stylenorm on its machines, or see its logs"
                )
            self._replace(hand)

    def _take(self, hand: _Hand, ref, manifest: Manifest) -> Iterator[dict]:
        results = self._answer(ref)
        if results is None:
            yield from self._lost(hand, manifest)
            return
        task = hand.calls.pop(ref)
        for result in results:
            yield self._published(task, result, manifest)

    def _answer(self, ref):
        """What a call returned, or None if its worker died over it."""
        from ray.exceptions import RayError, RayTaskError

        try:
            return self.ray.get(ref)
        except RayTaskError as error:  # raised in our own code there
            raise error.cause if isinstance(error.cause, StylenormError) else error from None
        except RayError:
            return None

    def _lost(self, hand: _Hand, manifest: Manifest) -> Iterator[dict]:
        tasks = list(hand.calls.values())
        hand.calls.clear()  # whatever of it comes in yet was written by a worker that is given up
        self._replace(hand)
        for task in tasks:
            self.litter |= {os.path.dirname(target) for _, target in task.targets}
            tries = self.tries[task.photo.name] = self.tries.get(task.photo.name, 0) + 1
            if tries < TRIES:
                self.suspects.append(task)
                continue
            for look, target in task.targets:
                told = f"{task.photo.path}: {TRIES} workers died over it, for want of memory perhaps; make it smaller"
                yield self._published(task, Result(failed_line(task.photo, look, target, told)), manifest)

    def _replace(self, hand: _Hand) -> None:
        self.ray.kill(hand.actor)  # it may only be out of reach
        self.hands[self.hands.index(hand)] = self._hire(hand.slot)

    def _published(self, task: Task, result: Result, manifest: Manifest) -> dict:
        out, line = self.brush.out, result.line
        for notice in result.notices:
            self.say(notice)
        if result.full:
            raise no_room(out, result.full)
        try:
            publish(out, line["output"], result.draft, lambda: self._note(line, manifest))
        except OSError as error:
            if error.errno in NO_MORE_ROOM:
                raise no_room(out, error) from None
            line = failed_line(task.photo, Look(line["style"], ""), line["output"], error)
            self._note(line, manifest)
        return line

    def _note(self, line: dict, manifest: Manifest) -> None:
        try:
            manifest.append(line)
        except OSError as error:
            raise no_room(self.brush.out, error) from None
