"""Training: named styles and random paintings in one network and one run."""

from __future__ import annotations

import copy
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from textwrap import shorten

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from stylenorm.catalog import NETWORK
from stylenorm.checkpoint import save_network, save_ranges, save_style
from stylenorm.config import TrainConfig, need_config, settled, weight_of
from stylenorm.data import Batch, Crop, Pairs, RandomCrops, Share, collate, find_images, floats, held_out, refuse_blank, uneven
from stylenorm.device import (
    Group,
    autocast,
    can_compile,
    choose_device,
    deterministic,
    joined,
    loading_ahead,
    loading_processes,
    memory_format,
    out_of_memory,
    peak_flops,
    telling_memory,
    turn,
    usual_defaults,
)
from stylenorm.drafts import remove, remove_drafts
from stylenorm.errors import ImageError, StylenormError, WeightsError, loader_died, one_line
from stylenorm.jobs import identity
from stylenorm.machine import machine_memory
from stylenorm.metadata import read_metadata
from stylenorm.muon import Muon, Together
from stylenorm.perceptual import CONTENT_LAYER, content_loss, grams, structure_loss, style_loss
from stylenorm.ranges import measured_ranges
from stylenorm.stored import ranges_file
from stylenorm.style import Style
from stylenorm.training_logs import Clock, Logs, Progress, draw_curve, draw_sheet, writing
from stylenorm.training_model import NamedStyles, StyledModel, describe, load_named, load_vgg, new_model, painting_tensor
from stylenorm.training_state import alone_in, as_begun, load_state, mark_of, no_empty, save_state

__all__ = [
    "Clock", "Logs", "NamedStyles", "Progress", "StyledModel", "TrainConfig", "Trainer", "describe", "load_named", "load_vgg",
    "painting_tensor", "train",
]  # fmt: skip

BETAS = (0.9, 0.99)  # Adam's
LARGEST = 30.0  # twice what an unchanged photograph has with most paintings
APART = 60.0  # seconds, at least, between checkpoints, and between sheets, on a GPU: both take a few
EXAMPLES, EXAMPLE_SIZE = 8, 256  # photographs, and as many paintings, that ranges are measured on; px of the photographs


class Trainer:
    """A run, from its settings to its files. ``Trainer(config).run()``.

    group: the processes that train together, from `stylenorm.device.joined`. Each takes its share of every
    batch, and their gradients are averaged (torch's DistributedDataParallel); the first one writes the files.
    """

    FILE = NETWORK  # what it writes, in ``out``
    PAINTED_ON = "photograph"  # what the first column of a sample sheet shows
    SMALLER: tuple[int, ...] = ()  # see `stylenorm.training_model.describe`
    LEAST = 1  # pictures that a batch holds, or a multiple of them
    BORDER = 0  # px that they have on each side beside their size
    MEASURED = True  # whether ranges lie beside the network, for 8 bits
    styles_of: str | None = None  # the hash of the network whose styles the result takes, if not its own

    @usual_defaults()
    def __init__(self, config: TrainConfig, resume: bool = False, group: Group = Group()) -> None:
        need_config(config, TrainConfig)
        self.group = group
        if config.deterministic == "on":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA is first used
        self.device = group.device(config.device)
        self.out = Path(config.out)
        self.state_file = self.out / "resume.safetensors"
        begun = resume and self.state_file.exists()
        config = as_begun(config, self.state_file) if begun else settled(config, _least_memory(self.device, group), group.size)
        self.config = config
        _check_shares(config, group, begun)
        for option in ("init", "generator"):
            file = getattr(config, option, None)
            if file and identity(Path(file)) == identity(self.out / self.FILE):
                raise StylenormError(f"{file}, which --{option} starts from, would be overwritten; give another --out")
        if self.state_file.exists() and not resume:
            raise StylenormError(f"{self.out} holds a run already; go on with --resume, or choose another --out")
        if (self.out / self.FILE).exists() and not resume:
            raise StylenormError(f"{self.out / self.FILE} would be overwritten; choose another --out, or move it away")
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StylenormError(f"{self.out} cannot be made a folder: {error.strerror}; give another --out") from None
        self.starts_from = mark_of(config.init)
        torch.manual_seed(config.seed)
        self.vgg = load_vgg(config.vgg, self.device)
        self._find_pictures()
        self.step = 0
        self.seconds, self.started = 0.0, time.monotonic()  # how long the run has taken, with the parts before a --resume
        self.left = dict.fromkeys(("state", "sheet"), self.started)  # when it was written last
        model, self.seen_before = self._new_model()
        if group.size > 1 and model.generator.config.norm == "batch":  # be it that of --init
            raise StylenormError("batch norm looks at the whole batch and trains in one process; choose another --norm, or leave torchrun out")
        self.model = model.to(self.device, memory_format=memory_format(self.device))
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimizer = self._optimizer()
        if resume:
            self._load_state()
        if group.first:  # what a run that was killed while it wrote has left
            remove_drafts(self.out, growing=False)
            styles = [f"styles/.{name}.safetensors" for name in self.named.names]
            for name in (f".{Path(self.FILE).stem}", f".{self.state_file.name}", *styles):
                for draft in self.out.glob(f"{name}.*"):
                    remove(draft)
        self.painter = self._painter()

    def _find_pictures(self) -> None:
        config = self.config
        cache = machine_memory() // 4 if config.cache is None else config.cache * 10**6
        cache //= self.group.size  # each process has its own
        cache -= self._find_photos(cache)
        paintings = held_out(find_images(config.paintings, self.out))[0] if config.paintings else []
        self.paintings = (
            RandomCrops(paintings, config.painting_size, config.painting_scales, config.seed + 1, cache, config.recolored)
            if paintings
            else None
        )
        if self.paintings:
            _ = self.paintings[0]  # raises where none can be read, as long as there is nothing of this run
        self.named = (
            load_named(config.styles, config.names, config.style_size, self.vgg, self.device, self.SMALLER, self.out)
            if config.styles
            else NamedStyles([], {}, torch.zeros(0, 1920, device=self.device), [], self.SMALLER)
        )
        self.pairs = Pairs(self.photos, len(self.named.names), self.paintings, config.named_share)
        self.content_weights = self._content_weights()

    def _content_weights(self) -> Tensor:
        """What the content of a picture counts by its style, (S + 1,): the last one, which -1 finds, is any painting's."""
        weights = torch.ones(len(self.named.names) + 1)
        for name, weight in map(weight_of, self.config.content_weights):
            if name not in self.named.names:
                raise StylenormError(f"content_weights names {name!r}; the styles are {', '.join(self.named.names) or 'none'}")
            weights[self.named.names.index(name)] = weight
        return weights.to(self.device)

    def _find_photos(self, cache: int) -> int:
        """Find what is to be painted on, keep up to ``cache`` bytes of it in memory, and return how many."""
        config = self.config
        photos, self.unseen = held_out(find_images(config.photos, self.out))
        self.photos = RandomCrops(photos, config.size, config.photo_scales, config.seed, cache)
        refuse_blank(self.photos)
        _ = self.photos[0]  # raises where none can be read
        return self.photos.decoded.size

    def _new_model(self) -> tuple[StyledModel, int]:
        return new_model(self.config, self.named, self.paintings, self.vgg)

    def _painter(self) -> nn.Module:
        """The model as the training step calls it: compiled, and averaging its gradients over the processes."""
        config = self.config  # compiled kernels may add up in any order
        self.compiles = config.compile == "on" or (config.compile == "auto" and config.deterministic == "off" and can_compile(self.device))
        if self.compiles and self.device.type == "cpu" and config.batch == self.group.size:  # of one picture, float32, channels-last
            raise StylenormError("PyTorch gets the gradients of a single picture wrong where it compiles for a CPU; give --batch 2, or leave --compile out")
        if self.compiles:
            self._compile()
        if self.group.size == 1:
            return self.model
        devices = [self.device] if self.device.type == "cuda" else None
        # Without named styles there are no rows, and nothing to wait for from them.
        return DistributedDataParallel(self.model, devices, find_unused_parameters=not self.named.names)

    def _compile(self, disable: bool = False) -> None:
        # In place: names and values of the weights stay what they are. A batch has only two numbers of paintings.
        self.model.generator.compile_parts(disable)
        self.vgg.compile(dynamic=False, disable=disable)

    def _optimizer(self) -> torch.optim.Optimizer | Together:
        """Each group of parameters has its ``peak``, which the schedule is a share of."""
        config, model = self.config, self.model

        def group(parameters, peak: float) -> dict:
            return {"params": list(parameters), "peak": peak}

        weights = group(model.generator.parameters(), config.learning_rate)
        encoder = group(model.encoder.parameters(), config.encoder_learning_rate)
        rows = group([model.rows], config.style_learning_rate)
        if config.optimizer == "adam":
            return torch.optim.Adam([weights, encoder, rows], betas=BETAS)
        convolutions = group((p for p in weights["params"] if p.dim() == 4), config.learning_rate)
        biases = group((p for p in weights["params"] if p.dim() != 4), config.learning_rate)
        return Together(Muon([convolutions]), torch.optim.Adam([biases, encoder, rows], betas=BETAS))

    def done(self, step: int) -> float:
        """The share of the run that lies behind after ``step`` steps, or, with minutes, now."""
        if self.config.minutes is None:
            return step / self.config.steps
        return min(1.0, self.seconds / (60 * self.config.minutes))

    def learning_rate(self, step: int) -> float:
        """The schedule, as a factor from 0 to 1: a linear warm-up over a quarter of the run at most, a plateau, a cosine."""
        config, done = self.config, self.done(step)
        warmup = config.warmup if config.minutes else min(config.warmup, config.steps // 4)
        rise = min(1.0, max((step + 1) / max(1, warmup), done / 0.25 if config.minutes else 0.0))
        start = config.decay_start
        if done < start or start == 1:
            return rise
        return rise * 0.5 * (1 + math.cos(math.pi * (done - start) / (1 - start)))

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Content, style and structure loss of each picture, (N,) all three."""
        batch = self._there(batch)
        photos, named = batch.photos, batch.named
        with autocast(self.device):
            with torch.no_grad():
                target = self.vgg(photos, [CONTENT_LAYER])[CONTENT_LAYER]
                goals, statistics = self.named.goals(self.vgg, named, batch.paintings)
            painted = self.painter(photos, statistics, named)
            features = self.vgg(painted)
            content = content_loss(features[CONTENT_LAYER], target)
            style = style_loss(grams(features), goals)
        return content, style, structure_loss(painted, photos)

    def _there(self, batch: Batch) -> Batch:
        """``batch`` on the device, its pictures as floats."""

        ahead = self.device.type == "cuda"  # an earlier torch may read what is gone already when it gets to it, on a Mac's GPU

        def moved(pixels: Tensor) -> Tensor:
            return floats(pixels.to(self.device, non_blocking=ahead)).contiguous(memory_format=memory_format(self.device))

        paintings = None if batch.paintings is None else moved(batch.paintings)
        named = batch.named.to(self.device, non_blocking=ahead)
        return replace(batch, photos=moved(batch.photos), named=named, paintings=paintings)

    def gradients(self, batch: Batch) -> Tensor:
        """Leave the gradients of the loss in the parameters; return the loss, their norm, content and style, (4,)."""
        config, shown = self.config, uneven(batch.photos).to(self.device, non_blocking=self.device.type == "cuda")
        batch = self._there(batch)
        content, style, structure = self.losses(batch)
        weights = config.content_weight * self.content_weights[batch.named]
        weighted = weights * content + config.style_weight * style + config.structure_weight * structure
        # Each instance norm passes on some hundred times the gradient of a photograph of one colour, until it is beyond all
        # numbers. There are such where no other can be cut; they ask for nothing then.
        loss = torch.where(shown, tempered(weighted), 0.0).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        return torch.stack([loss, norm, content.mean(), style.mean()]).detach()

    def train_step(self, batch: Batch) -> tuple[float, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self.learning_rate(self.step)
        values = self.gradients(batch)
        seconds = values.new_full((1,), time.monotonic() - self.started)
        values = self.group.mean(torch.cat([values, seconds]))
        if self.device.type == "cuda":
            # Reading a value means waiting for the GPU: once a step, when it has got all of its work. Weights that are
            # spoiled by then end the run, and no file has them.
            self._move()
            content, style = self._read(values, batch, self.step)
        else:
            content, style = self._read(values, batch, self.step + 1)
            self._move()
        return content, style

    def _move(self) -> None:
        self.optimizer.step()
        self.step += 1
        self._follow()

    def _read(self, values: Tensor, batch: Batch, step: int) -> tuple[float, float]:
        loss, norm, content, style, self.seconds = values.tolist()
        for what, value in (("loss", loss), ("gradient", norm)):
            if not math.isfinite(value):
                styles = [f" with the style {self.named.names[k]}" if k >= 0 else "" for k in batch.named.tolist()]
                pictures = self.group.all([n + s for n, s in zip(batch.names, styles)])
                way = "go on from the last checkpoint with --resume and" if self.state_file.exists() else "start again with"
                raise StylenormError(
                    f"the {what} is not finite at step {step}, at {'; '.join(pictures)}; "
                    f"{way} a --learning-rate below {self.config.learning_rate:g}"
                )
        return content, style

    @torch.no_grad()
    def _follow(self) -> None:
        """Exponential moving average of the weights, quick at first; this is what is exported."""
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        ours, theirs = (list(model.state_dict().values()) for model in (self.average, self.model))
        pairs = [(a, b) for a, b in zip(ours, theirs) if a.is_floating_point()]
        torch._foreach_lerp_(*map(list, zip(*pairs)), 1 - decay)
        for a, b in zip(ours, theirs):
            if not a.is_floating_point():
                a.copy_(b)

    def batches(self) -> Iterator[Batch]:
        config = self.config
        group = self.group
        workers = loading_processes(self.device, group.size) if config.workers is None else config.workers
        ahead = None
        if workers:
            pictures = [self.photos[0], *([self.paintings[0]] if self.paintings else [])]
            size = config.batch // group.size * sum(picture.data.nbytes for picture in pictures)
            workers, ahead = loading_ahead(workers, size, self.device, group)
        steps = config.steps if config.minutes is None else 2**40 if self.done(self.step) < 1 else self.step
        loader = DataLoader(
            self.pairs,
            config.batch // group.size,
            sampler=Share(self.step * config.batch, steps * config.batch, config.batch, group.rank, group.size),
            collate_fn=collate,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
            prefetch_factor=ahead if workers else None,
            # What one decodes all then have, see `Decoded`; from Python 3.14 on they would be started anew.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        )
        try:
            with usual_defaults():  # it draws a seed, on torch's default device
                batches = iter(loader)
            yield from batches
        except ImageError as error:  # a worker's has its traceback in it
            raise ImageError(str(error).strip().splitlines()[-1].rpartition("ImageError: ")[2]) from None

    def run(self, progress: Callable[[Progress], None] | None = None) -> Path:
        """Train to the end and return the network file. Leaves checkpoints, curve and sheets as it goes.

        A run that had come to its end before is left as it is: ``progress`` is not called, and no file touched.
        """
        config = self.config
        if self._finished():
            return self.out / self.FILE
        clock = Clock()
        self.started = time.monotonic() - self.seconds
        with deterministic(config.deterministic == "on"), self._logs() as logs, loading():
            if self.done(self.step) >= 1:  # killed after its last checkpoint, before its network was written
                with writing(self.out):
                    self._leave_files(logs)
            for batch in self.batches():
                with turn(self.device):
                    content, style = self._step_or_say_what_fits(batch)
                clock.tick()
                record = self._record(batch, content, style, clock)
                with writing(self.out):
                    logs.write(record)
                if progress and self.group.first:
                    progress(record)
                with writing(self.out):
                    self._leave_files(logs)
                if self.done(self.step) >= 1:
                    break
        return self.out / self.FILE

    def _finished(self) -> bool:
        """Whether the run was at its end before, and its network was written whole, with the ranges, and then the pictures drawn."""
        network = self.out / self.FILE
        if self.done(self.step) < 1:
            return False
        try:
            told = read_metadata(network, "network")
            whole = not self.MEASURED or read_metadata(ranges_file(network), "ranges")["network"] == told["hash"]
            drawn = all((self.out / name).stat().st_mtime >= network.stat().st_mtime for name in ("samples.png", "loss.png"))
            return whole and drawn and told["about"]["training"]["step"] == self.step
        except (OSError, WeightsError, KeyError, TypeError):  # written anew then
            return False

    def _record(self, batch: Batch, content: float, style: float, clock: Clock) -> Progress:
        config, gpu, done = self.config, None, self.done(self.step)
        left = (config.steps - self.step) / clock.speed() if config.minutes is None else 60 * config.minutes - self.seconds
        if done >= 1 and self.device.type == "cuda" and self.group.first:
            gpu = torch.cuda.get_device_name(self.device)
        return Progress(
            step=self.step,
            steps=config.steps if config.minutes is None else max(self.step + (done < 1), round(self.step / done)),
            content=content,
            style=style,
            total=config.content_weight * content + config.style_weight * style,
            learning_rate=self.optimizer.param_groups[0]["lr"],
            images_per_second=clock.speed() * config.batch,
            seconds_left=max(0.0, left),
            broken=tuple(batch.broken),
            gpu=gpu,
            peak_share=self._peak_share(batch, clock.late_speed(), gpu) if gpu else None,
        )

    def _logs(self) -> Logs:
        with writing(self.out):
            return Logs(self.out if self.group.first else None, self.step, self.config.tensorboard)

    def _leave_files(self, logs: Logs) -> None:
        if not self.group.first:
            return
        shown = self.done(self.step) >= 1 or self._is_due("sheet", self.config.sample_every)
        with turn(self.device):
            if shown or self._is_due("state", self.config.checkpoint_every):  # no network without a checkpoint
                self.save_state()
                self.left["state"] = time.monotonic()
            if shown:
                self.export(self.out)
                logs.picture(self.sample(self.out), self.step)
                self.left["sheet"] = time.monotonic()

    def _is_due(self, what: str, every: int) -> bool:
        """Whether this step leaves it. On a GPU, which may take so many steps in a few seconds, it does not come more often than that pays."""
        return self.step % every == 0 and (self.device.type != "cuda" or time.monotonic() - self.left[what] >= APART)

    # ---- memory and speed ----------------------------------------------------------------------

    def _step_or_say_what_fits(self, batch: Batch) -> tuple[float, float]:
        try:
            if self.compiles:
                self._try_what_is_compiled(batch)
            return self.train_step(batch)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        config = self.config  # from here on the tensors of the failed step are free
        told = f"a batch of {config.batch} at {config.size} px needs more memory than there is"
        found = self._fitting(batch)
        if found is None:
            raise StylenormError(f"{told}, and so does one picture at 64 px; give smaller --widths, or another --device")
        raise StylenormError(f"{told}; --batch {found[0]} --size {found[1]} fits")

    def _fitting(self, batch: Batch) -> tuple[int, int] | None:
        """The first of halved batches, then of halved sizes, that this device holds; tried out, without a step."""
        count, size = len(batch.names), self.config.size
        while count > self.LEAST or size > 64:
            half = count // 2 // self.LEAST * self.LEAST
            count, size = (half, size) if half else (count, max(64, size // 2))
            self.optimizer.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            try:
                self._try(batch.part(count, size + 2 * self.BORDER))
                return count * self.group.size, size
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
        return None

    def _try(self, batch: Batch) -> None:
        """A step that leaves nothing. The other processes take no part in it."""
        painter, self.painter = self.painter, self.model
        try:
            loss = sum(self.losses(batch)).mean()
            weights = [p for p in self.model.parameters() if p.requires_grad]
            torch.autograd.grad(loss, weights, allow_unused=True)  # calls no hook of DistributedDataParallel's
        finally:
            self.painter = painter

    def _try_what_is_compiled(self, batch: Batch) -> None:
        """Before the first step, for it is compiled as it is called. Where that fails, be it in one process, all do without."""
        self.compiles, failed, begun = False, [], time.monotonic()
        try:
            with self._buffers_kept():
                self._try(batch)
        except torch._dynamo.exc.TorchDynamoException as error:
            cause = getattr(error, "inner_exception", error)
            failed = [shorten(f"{type(cause).__name__}: {cause}".splitlines()[0], 200)]
        failed = self.group.all(failed)
        self.started += time.monotonic() - begun  # a minute of compiling is none of training
        if not failed:
            return
        told = f"the network cannot be compiled here: {one_line(failed[0])}"
        if self.config.compile == "on":
            raise StylenormError(f"{told}; leave --compile out to train without")
        if self.group.first:
            logging.getLogger("stylenorm").warning("stylenorm: %s; it trains without, more slowly", told)
        self._compile(disable=True)

    @contextmanager
    def _buffers_kept(self) -> Iterator[None]:
        """Batch norm's running moments are afterwards what they were."""
        before = [buffer.clone() for buffer in self.model.buffers()]
        try:
            yield
        finally:
            for buffer, value in zip(self.model.buffers(), before):
                buffer.copy_(value)

    def flops(self, batch: Batch) -> int:
        """Floating-point operations of a step's losses and gradients on ``batch``; a product and its sum count as two."""
        painter, self.painter = self.painter, self.model
        try:
            fused = {torch.ops.mkldnn._convolution_pointwise: _fused_convolution_flops}
            counting = FlopCounterMode(display=False, custom_mapping=fused)
            with self._buffers_kept(), torch.compiler.set_stance("force_eager"), counting as counter:
                sum(self.losses(batch)).mean().backward()
        finally:
            self.painter = painter
            self.optimizer.zero_grad(set_to_none=True)
        return counter.get_total_flops()

    def _peak_share(self, batch: Batch, steps_per_second: float, gpu: str) -> float | None:
        peak = peak_flops(gpu)
        try:
            return self.flops(batch) * steps_per_second / peak if peak else None
        except (MemoryError, RuntimeError) as error:  # uncompiled, a step may need more memory
            if not out_of_memory(error):
                raise
            return None

    # ---- files ---------------------------------------------------------------------------------

    @torch.no_grad()
    def export(self, folder: Path) -> Path:
        """Write the averaged network and its named styles into ``folder``; return the network file."""
        model, path = self.average, Path(folder) / self.FILE
        if not self.group.first:
            return path
        digest = save_network(path, model.generator, model.encoder, training=self._about(), styles=self.named.names)
        for index, name in enumerate(self.named.names):
            save_style(path.parent / "styles" / f"{name}.safetensors", self._style(index, digest))
        save_ranges(path, digest, measured_ranges(model.generator, self._examples()))
        return path

    def _examples(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Photographs and rows to measure a network's ranges on: each named style, then paintings and the photographs' own."""
        with torch.compiler.set_stance("force_eager"):  # a batch of one is not what was compiled
            crops = self._unseen()
            photos = [crops[i].pixels[None].to(self.device) for i in range(EXAMPLES)]
            named = [self._style(i).flat() for i in range(len(self.named.names))]
            pictures = [self.paintings[i].pixels[None].to(self.device) for i in range(EXAMPLES)] if self.paintings else []
            predicted = (self.average.encoder(describe(self.vgg, x)[1]) for x in pictures + photos)
            for i, row in enumerate(chain(named, predicted)):
                yield photos[i % EXAMPLES][..., :EXAMPLE_SIZE, :EXAMPLE_SIZE], row

    def _about(self) -> dict[str, object]:
        """How it was trained, for the files: without the names of folders."""
        config = self.config
        settings = {k: v for k, v in asdict(config).items() if k not in ("photos", "styles", "paintings", "out", "vgg", "init", "generator")}
        settings |= self.model.generator.config.to_dict()  # with init, that network's and not the settings'
        images = self.seen_before + self.step * config.batch
        return settings | {"step": self.step, "images": images, "torch": torch.__version__}

    @torch.no_grad()
    def _style(self, index: int, digest: str | None = None) -> Style:
        named = torch.tensor([index], device=self.device)
        flat = self.average.flat_styles(self.named.statistics[index : index + 1], named)
        channels = self.average.generator.config.channels
        return Style.from_flat(
            flat.float(), channels, name=self.named.names[index], provenance=self.named.provenance[index], network=digest
        )

    @torch.no_grad()
    def sample(self, folder: Path, photos: int = 3) -> Path:
        """A sheet of unseen photographs in every named style and two unseen paintings', and the loss curve."""
        crops = self._unseen()
        flats = [self._style(i).flat() for i in range(len(self.named.names))]
        for i in range(2 if self.paintings else 0):
            painting = self.paintings[i].pixels[None].to(self.device)
            with torch.compiler.set_stance("force_eager"):  # a batch of one is not what was compiled
                flats.append(self.average.encoder(describe(self.vgg, painting)[1]))
        path = Path(folder) / "samples.png"
        draw_sheet(path, self._painted, crops, flats, self.named.names, photos, self.PAINTED_ON)
        draw_curve(Path(folder))
        return path

    def _painted(self, pictures: Tensor, flat: Tensor) -> Tensor:
        """``pictures`` (N, 3, H, W) in one style (1, 2, T), for a sheet."""
        generator = self.average.generator
        return generator(pictures, Style.from_flat(flat.expand(len(pictures), -1, -1), generator.config.channels))

    def _unseen(self) -> Sequence[Crop]:
        """Squares of photographs that are not trained on, where there are such and one can be read: an endless dataset."""
        crops = RandomCrops(self.unseen or self.photos.files, self.config.size, (self.config.size,) * 2, 0)
        try:
            crops[0]
        except ImageError:
            crops.files = self.photos.files
        return crops

    def save_state(self) -> None:
        """Everything that a resumed run needs, in one atomic file."""
        save_state(*self._state(), step=self.step, seen_before=self.seen_before, seconds=self.seconds)

    def _load_state(self) -> None:
        counts = load_state(*self._state())
        self.starts_from = self.starts_from or counts.get("starts_from")
        self.step, self.seen_before, self.seconds = counts["step"], counts["seen_before"], float(counts.get("seconds", 0))

    def _state(self) -> tuple:
        models = {"model": self.model, "average": self.average}
        return self.state_file, models, self.optimizer, self.config, self.named.names, self.styles_of, self.starts_from


@contextmanager
def undisturbed(folder: Path, group: Group) -> Iterator[None]:
    """No other run at work in ``folder``, see `alone_in`, and `no_empty`."""
    with no_empty(folder), alone_in(folder) if group.first else nullcontext():
        yield


@contextmanager
def loading() -> Iterator[None]:
    """That a process which loads pictures has died, of whatever, told in one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not loader_died(error):
            raise
        raise StylenormError(
            "a process that loads pictures has died, perhaps for want of memory, or of a container's --shm-size; "
            "go on from the last checkpoint with --resume and fewer --workers"
        ) from None


def tempered(losses: Tensor, largest: float = LARGEST) -> Tensor:
    """The losses of a batch's pictures (N,), each of those above ``largest`` scaled down to it, gradient and all.

    A crop of a single colour has a Gram matrix of next to nothing to divide by. One such in a thousand asks for a
    hundred times what the others do, and its step would undo theirs.
    """
    return losses * (largest / losses.detach().clamp_min(largest))


def _fused_convolution_flops(x_shape, weight_shape, *_, out_shape=None, **__) -> int:
    """What PyTorch's counter does not know: a convolution with its bias and ReLU."""
    return conv_flop_count(x_shape, weight_shape, out_shape)


def _least_memory(device: torch.device, group: Group) -> int | None:
    """Bytes of memory of the smallest of the GPUs that train; None without CUDA."""
    if device.type != "cuda":
        return None
    return min(group.all([torch.cuda.get_device_properties(device).total_memory]))


def _check_shares(config: TrainConfig, group: Group, begun: bool) -> None:
    """A batch that cannot be trained by several processes as it would be by one. begun: it is a run's, which keeps it."""
    if config.batch % group.size:
        way = "start as many as divide it" if begun else f"give --batch {-(-config.batch // group.size) * group.size}"
        raise StylenormError(f"a batch of {config.batch} cannot be shared evenly by {group.size} processes; {way}")


@torch.inference_mode(False)  # it learns whatever the caller has switched off
def train(config: TrainConfig, resume: bool = False, progress: Callable[[Progress], None] | None = None) -> Path:
    """Train as ``config`` says and return the network file. Raises `StylenormError` in one sentence.

    Started by torchrun, it trains together with the other processes; ``progress`` is then called in the first alone.
    """
    need_config(config, TrainConfig)
    with joined(config.device) as group:
        with undisturbed(Path(config.out), group):
            with telling_memory("give a smaller --style-size"), turn(choose_device(config.device)):
                trainer = Trainer(config, resume, group)
            return trainer.run(progress)
