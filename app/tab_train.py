"""A style of one's own from a painting, in minutes; and, where the operator allowed it, a whole network."""

from __future__ import annotations

import os
import time
from pathlib import Path

import gradio as gr

from . import page
from .library import Cancelled, NewStyleConfig, StyleError, StylenormError, TrainConfig, check_name, train, train_style
from .studio import Studio, example_photo
from .training import thinned, watch

CURVE = ["Step", "Loss", "What"]
FOLDER = "STYLENORM_APP_TRAIN_FOLDER"  # a folder with photos/, styles/ and perhaps paintings/ that visitors may train a network on


def tab(studio: Studio, choosers: page.Choosers, config: NewStyleConfig = NewStyleConfig()) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            gr.Markdown(
                "Teach a new style from one painting. It takes a few minutes, and the style is in the gallery afterwards. "
                "For a quick try you need no training: upload the painting on the first tab."
            )
            painting = page.photo_input("train-painting", "The painting", sources=["upload", "clipboard"])
            name = gr.Textbox(label="Name of the new style", placeholder="my garden", max_length=64, elem_id="train-name")
            minutes = gr.Slider(0.1, studio.limits.minutes, 5, step=0.1, label="Minutes", info="More minutes, closer to the painting")
            with gr.Row():
                run = gr.Button("Train this style", variant="primary", elem_id="train-run", min_width=200)
                stop = gr.Button("Stop, keep nothing", elem_id="train-stop", min_width=200)
        with gr.Column(scale=7, min_width=320):
            status = page.status_line("train-status", "Add a painting and a name to begin.")
            preview = gr.Image(
                label="What the style does so far", type="filepath", format="jpeg", interactive=False, height=340,
                elem_id="train-preview", buttons=[],
            )  # fmt: skip
            curve = gr.LinePlot(
                x="Step", y="Loss", color="What", title="How far from the goal: lower is better", height=240,
                elem_id="train-curve", label="Loss curve", show_label=False, buttons=[], x_title="Step", y_title="Distance",
            )  # fmt: skip
            file = gr.File(label="The style as a file", interactive=False, visible=False, elem_id="train-file", height=90)

    @page.plain
    def train_a_style(painting, name, minutes, request: gr.Request):
        """Train a style from a painting; name: what it is called afterwards; minutes: for how long.

        Returns again and again a line about the progress, a preview and the loss curve, and at the end the style's file.
        Stop it with /stop_training.
        """
        if not painting:
            raise StylenormError("add a painting first")
        if not (name or "").strip():
            raise StylenormError("give the new style a name first")
        name = check_name(name.strip(), studio.weights)
        if not 0 < minutes <= studio.limits.minutes:
            raise StylenormError(f"choose up to {studio.limits.minutes:g} minutes")
        picture = studio.read(painting)
        who = page.visitor(request)
        with studio.stops.work(who, "training") as stop, studio.turn():
            try:
                studio.shelf.hold(who, "train photo", [painting])
                settings = {**vars(config), "minutes": minutes}

                def work(progress):
                    return train_style(
                        name, [picture], weights=studio.weights, config=NewStyleConfig(**settings), about={"title": name},
                        progress=progress, should_stop=stop.is_set,
                    )  # fmt: skip

                yield "Looking at the painting.", None, None, gr.File(visible=False)
                shown = 0.0
                image = gr.skip()
                for seen in watch(work, stop):
                    update = seen.latest
                    if time.monotonic() - shown > 4 and update is not None and seen.result is None:
                        image, shown = sketch(who, update.current), time.monotonic()
                    if seen.result is None:
                        line = f"Step {update.step}, about {page.duration(update.seconds_left)} left"
                        yield line, image, rows(seen.curve), gr.skip()
                        image = gr.skip()
                studio.reload()
                target = studio.shelf.new(Path(seen.result).name)
                target.write_bytes(Path(seen.result).read_bytes())
                studio.shelf.hold(who, "train file", [target])
                line = f"Done: “{name}” is now among the styles on the other tabs."
                yield line, sketch(who, name), rows(seen.curve), gr.File(value=str(target), visible=True)
            except Cancelled:
                yield "Stopped; nothing was kept.", None, None, gr.File(visible=False)

    def sketch(who: str, style) -> str:
        image = studio.stylizer.stylize(example_photo(), style, size=384)
        path = studio.shelf.new("preview.jpg")
        image.save(path, quality=90)
        studio.shelf.hold(who, "train preview", [path])
        return str(path)

    def stop_training(request: gr.Request):
        """Stop the training that this page.visitor started; nothing of it is kept."""
        return "Stopping." if studio.stops.ask(page.visitor(request), "training") else "No training is at work."

    page.hold(studio, painting)

    def leave(request: gr.Request):
        studio.leave(page.visitor(request))

    page.expect(run, studio, "training")
    running = run.click(
        train_a_style, [painting, name, minutes], [status, preview, curve, file],
        api_name="train_style", show_progress="hidden", **page.QUEUE,
    )  # fmt: skip
    page.expect_no_more(running, studio, "training")
    running.success(
        lambda *chosen: choosers.refreshed(studio, *chosen), choosers.marked(), choosers.outputs(),
        api_visibility="private", show_progress="hidden",
    )  # fmt: skip
    stop.click(stop_training, None, status, api_name="stop_training", queue=False)
    gr.context.Context.root_block.unload(leave)
    if allowed_folder() is not None and gpu():
        full_training(studio, stop_training)


def rows(curve) -> dict | object:
    import pandas

    table = [(step, style, "style") for step, style, _ in thinned(curve)]
    table += [(step, content, "photograph") for step, _, content in thinned(curve)]
    return pandas.DataFrame(table, columns=CURVE)


def allowed_folder() -> Path | None:
    """The folder that the operator allowed, if it has photographs and paintings."""
    path = Path(os.environ.get(FOLDER) or "")
    return path if os.environ.get(FOLDER) and (path / "photos").is_dir() and (path / "styles").is_dir() else None


def gpu() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def full_training(studio: Studio, stop_training) -> None:
    """Training of a whole network, on the folder that the operator allowed and no other."""
    with gr.Accordion("Train a whole network", open=False, elem_id="full"):
        gr.Markdown("Trains on the photographs and paintings that the operator of this page put on the server.")
        steps = gr.Slider(10, 100_000, 6000, step=10, label="Steps")
        with gr.Row():
            run = gr.Button("Train a network", variant="primary")
            stop = gr.Button("Stop")
        status = page.status_line("network-status")
        curve = gr.LinePlot(x="Step", y="Loss", color="What", label="Loss curve", show_label=False, height=240)

    @page.plain
    def train_network(steps, request: gr.Request):
        """Train a whole network for so many steps, on the folder that the operator allowed."""
        folder = allowed_folder()
        if folder is None:
            raise StyleError("the operator of this page has not allowed a folder to train on")
        with studio.stops.work(page.visitor(request), "training") as stop, studio.turn():
            out = folder / time.strftime("network-%Y%m%d-%H%M%S")
            museum = folder / "paintings"
            config = TrainConfig(
                str(folder / "photos"), str(out), styles=str(folder / "styles"),
                paintings=str(museum) if museum.is_dir() else None, steps=int(steps),
            )  # fmt: skip

            def work(progress):
                def or_stop(update):
                    progress(update)
                    if stop.is_set():
                        raise Cancelled("the training was stopped")

                return train(config, progress=or_stop)

            try:
                for seen in watch(work, stop):
                    if seen.result is None:
                        yield f"Step {seen.latest.step} of {int(steps)}", rows(seen.curve)
                yield f"Done: the network is in the folder {out.name}.", rows(seen.curve)
            except Cancelled:
                yield "Stopped; the last checkpoint is in the folder.", gr.skip()

    page.expect(run, studio, "training")
    running = run.click(train_network, steps, [status, curve], api_name="train_network", **page.QUEUE)
    page.expect_no_more(running, studio, "training")
    stop.click(stop_training, None, status, queue=False, api_visibility="private")
