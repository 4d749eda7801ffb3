"""New pictures from noise and a style."""

from __future__ import annotations

import functools

import gradio as gr

from .easel import COLORS, Easel
from .library import Cancelled
from .page import QUEUE, Choosers, expect, expect_no_more, format_choice, hold, own_style, plain, quality_slider, use_own, visitor, wish_of
from .parts import Drawing
from .studio import Studio

STOPPED = gr.skip(), gr.skip(), gr.skip()  # what is shown stays


def tab(studio: Studio, choosers: Choosers) -> None:
    easel = Easel(studio)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            gr.Markdown("No photograph is needed: a style and a number make a picture that nobody has seen before.")
            style = choosers.add(studio, "Style", studio.first(), elem_id="generate-style")
            with gr.Row():
                width = gr.Number(768, label="Width (px)", precision=0, minimum=64, elem_id="generate-width", min_width=124)
                height = gr.Number(512, label="Height (px)", precision=0, minimum=64, elem_id="generate-height", min_width=124)
                seed = gr.Number(0, label="Number of the picture", precision=0, minimum=0, elem_id="generate-seed", min_width=230)
            seamless = gr.Checkbox(False, label="Seamless: it goes on across its own edges", elem_id="generate-seamless")
            with gr.Row():
                paint = gr.Button("Make it", variant="primary", elem_id="generate-make", min_width=150)
                another = gr.Button("Another one", elem_id="generate-another", min_width=150)
                stop = gr.Button("Stop", elem_id="generate-stop", min_width=150)
            with gr.Accordion("Use your own painting as a style", open=False):
                painting, style_file = own_style("generate")
            with gr.Accordion("Paint a layout: other styles in other places", open=False, elem_id="generate-layout"):
                gr.Markdown("Choose the brush, paint in up to three colours, and choose a style for each. White gets the style above.")
                drawing = Drawing(
                    label="The layout", type="filepath", image_mode="RGBA", format="png", sources=(), transforms=(), layers=False,
                    brush=gr.Brush(colors=list(COLORS.values()), default_color=COLORS["gold"], default_size=50, color_mode="fixed"),
                    canvas_size=(480, 320), height=400, elem_id="generate-drawing", buttons=[], interactive=True,
                )  # fmt: skip
                drawing.most_bytes = studio.limits.file_bytes
                with gr.Row():
                    bound = [
                        choosers.add(studio, f"Style of {color}", None, elem_id=f"generate-{color}", min_width=160) for color in COLORS
                    ]
                soft = gr.Slider(0, 30, 4, step=1, label="Soft border", info="in % of the shorter side")
        with gr.Column(scale=7, min_width=320):
            result = gr.Image(label="The picture", type="filepath", interactive=False, elem_id="generate-result", buttons=["fullscreen"])
            repeat = gr.Image(
                label="Four of it side by side", type="filepath", interactive=False, visible=False, elem_id="generate-repeat",
                buttons=["fullscreen"],
            )  # fmt: skip
            with gr.Row():
                format = format_choice()
                quality = quality_slider()
            file = gr.DownloadButton("Save the file", visible=False, elem_id="generate-file")

    @plain
    def generate(
        style=None, width=768, height=512, seed=0, seamless=False, layout=None, gold=None, red=None, green=None, soft=4,
        painting=None, style_file=None, format="jpeg", quality=95, request: gr.Request = None, progress=gr.Progress(),
    ):  # fmt: skip
        """Make a picture from noise: (it at preview size, four of it side by side if it is seamless, the file).

        style: a name from /styles, or ":painting" or ":file" for what is uploaded as painting or style_file. seed: the
        same one gives the same picture. layout: {"background": None, "layers": [pictures], "composite": None}, painted
        in #e0c020, #c03030 and #208050, whose styles are gold, red and green; ``style`` is that of the rest.
        soft: width of the borders between them, in % of the shorter side. format: "jpeg" or "png".
        Stop it with /stop_generate.
        """
        wish = wish_of([(style, 1)], painting, style_file, 1, False, None)
        with studio.stops.work(visitor(request), "generate") as stopped:

            def go_on(tiles: int = 0, count: int | None = None) -> None:
                if stopped.is_set():
                    raise Cancelled("the picture was stopped")
                if count:
                    progress((tiles, count), unit="tiles")

            try:
                go_on()
                shown, four, path = easel.generate(
                    visitor(request), wish, (width, height), seed, bool(seamless), layout or [], (gold, red, green), soft, format, quality,
                    go_on,
                )  # fmt: skip
            except Cancelled:
                gr.Info("Stopped; no picture was made.")
                return STOPPED
        saved = gr.DownloadButton(f"Save {path.name}, {path.stat().st_size / 1e6:.1f} MB", value=str(path), visible=True)
        return str(shown), gr.Image(value=four and str(four), visible=four is not None), saved

    @plain
    @functools.wraps(generate)  # Gradio looks for the request and the progress among its arguments
    def generate_next(style, width, height, seed, *others):
        """The number is told with its picture: clicks while one is made begin nothing, and would count on without it."""
        seed = int(seed or 0) + 1
        made = generate(style, width, height, seed, *others)
        return (gr.skip() if made is STOPPED else seed), *made

    def stop_generate(request: gr.Request) -> str:
        """Stop the picture that this visitor is having made; nothing of it is kept."""
        return "Stopping." if studio.stops.ask(visitor(request), "generate") else "No picture is being made."

    def stop_it(request: gr.Request) -> None:
        gr.Info(stop_generate(request))

    inputs = [style, width, height, seed, seamless, drawing, *bound, soft, painting, style_file, format, quality]
    outputs = [result, repeat, file]
    for button in (paint, another):
        expect(button, studio, "generate")
    first = paint.click(generate, inputs, outputs, api_name="generate", show_progress_on=result, **QUEUE)
    following = another.click(generate_next, inputs, [seed, *outputs], api_visibility="private", show_progress_on=result, **QUEUE)
    for started in (first, following):
        expect_no_more(started, studio, "generate")
    stop.click(stop_it, None, None, api_visibility="private", show_progress="hidden")
    gr.api(stop_generate, api_name="stop_generate", queue=False)
    use_own(style, painting, style_file)
    hold(studio, painting, style_file)
