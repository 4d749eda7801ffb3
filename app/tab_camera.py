"""What the camera sees, painted while one moves."""

from __future__ import annotations

import html

import gradio as gr

from . import page
from .camera import SIDES, Camera
from .library import StylenormError, counted
from .parts import Frame, Lens, Slide
from .studio import Studio

EVERY = 0.08  # seconds between two pictures that are sent at least; the latest counts where painting takes longer
AT_ONCE = 8  # visitors; their pictures are small, so they need not wait for those who stand in the network's queue
LEAVE = "Give the page leave to use the camera, then press **Record**. Browsers allow it on this computer itself and over https."
OFF = "The camera is off. Its pictures are painted and forgotten: nothing of them is kept."
STOPPED = "Stopped: nothing is sent any more, and nothing was kept."


def tab(studio: Studio, choosers: page.Choosers) -> None:
    camera = Camera(studio)
    with gr.Row(equal_height=False, elem_id="camera-page"):
        with gr.Column(scale=5, min_width=320):
            lens = Lens(
                label="Your camera",
                sources=["webcam"],
                streaming=True,
                height=360,
                elem_id="camera",
                buttons=[],
                webcam_options=gr.WebcamOptions(mirror=True, constraints={"video": {"width": {"ideal": 640}, "height": {"ideal": 480}}}),
            )
            gr.Markdown(LEAVE, elem_id="camera-leave")
            gr.Markdown("**Choose a style** by what it does to a photograph", elem_classes="styles-heading")
            gallery = page.style_gallery("camera-gallery")
        with gr.Column(scale=7, min_width=320):
            shown = Frame(
                label="The painting", interactive=False, elem_id="camera-painted", height=480, buttons=["download", "fullscreen"],
                alt_text="The painting",
            )  # fmt: skip
            status = page.status_line("camera-status", OFF)
            with gr.Row():
                style = choosers.add(studio, "Style", studio.first(), elem_id="camera-style", min_width=page.BESIDE)
                other = choosers.add(studio, "Blend with", "", none="none", elem_id="camera-other", min_width=page.BESIDE)
            with gr.Row():
                share = Slide(0, 1, 0.5, step=0.05, label="Share of the second", min_width=page.BESIDE, elem_id="camera-share")
                strength = page.strength_slider(Slide)
            with gr.Row():
                size = gr.Radio([(f"{n} px", n) for n in SIDES], value=384, label="Size of the painting: small is fast", elem_id="camera-size")
            where = page.where_choice()
            with gr.Accordion("Use your own painting as the style", open=False):
                painting, style_file = page.own_style("camera")
            with gr.Row():
                faces = page.faces_slider(Slide)
                with gr.Column(min_width=page.BESIDE):
                    steady = gr.Checkbox(True, label="What holds still stays the same")
                    keep_colors = gr.Checkbox(False, label="Keep the camera's colours")

    @page.plain
    def paint(picture, style, other, share, painting, style_file, strength, size, steady, keep_colors, faces, where, request: gr.Request):
        try:
            check(share, strength, faces)
            styles = [(style, 1 - share if other else 1), (other, share)]
            wish = page.wish_of(styles, painting, style_file, strength, keep_colors, size, faces=faces, where=where)
            image, pace = camera.paint(page.visitor(request), picture, wish, bool(steady))
        except StylenormError as error:  # raised, it would end the stream
            return gr.skip(), html.escape(page.sentence(error), quote=False)
        return image, told(image.size, pace)

    seen = lens.stream(
        paint, [lens, style, other, share, painting, style_file, strength, size, steady, keep_colors, faces, where], [shown, status],
        stream_every=EVERY, time_limit=None, show_progress="hidden", api_visibility="private",
        concurrency_id="camera", concurrency_limit=AT_ONCE,
    )  # fmt: skip
    seen.then(lambda: STOPPED, None, status, api_visibility="private", show_progress="hidden", queue=False)
    page.join(choosers, studio, gallery, style)
    page.use_own(style, painting, style_file)
    page.hold(studio, painting, style_file)

    def leave(request: gr.Request):
        camera.leave(page.visitor(request))

    gr.context.Context.root_block.unload(leave)


def told(size: tuple[int, int], pace: float | None) -> str:
    """A line about what is shown. pace: pictures a second, where that is known."""
    return "{} x {} px".format(*size) + (f", {counted(max(1, round(pace)), 'picture')} a second" if pace else "")


def check(share: float | None, strength: float | None, faces: float | None) -> None:
    """Raises `StylenormError` for what one types into the boxes of the sliders on the way to a number, such as nothing."""
    for what, number in (("share of the second", share), ("strength", strength), ("amount of faces' features", faces)):
        if number is None or not 0 <= number <= 1:
            raise StylenormError(f"the {what} is a number from 0 to 1")
