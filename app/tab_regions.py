"""One style where you paint, another one elsewhere; or none, and the photograph stays as it is there."""

from __future__ import annotations

import gradio as gr

from . import page
from .library import FACES, PEOPLE, opencv
from .parts import Drawing
from .studio import SCREEN, Studio, example_photos
from .tab_stylize import SAVE

AS_IT_IS = "the photograph as it is"
SOFT, SHARP = 6, 0.5  # % of the picture's width, soft edge between styles, and along an edge in the photograph


def tab(studio: Studio, choosers: page.Choosers) -> None:
    names = list(studio.stylizer.styles)
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=320):
            gr.Markdown("Add a photograph, paint over a part of it with the brush, and give that part a style of its own; people are found without any brush. Or choose “the photograph as it is” for one of the two parts.")
            photo = page.photo_input("regions-photo", height=200)
            gr.Examples(
                [[str(p)] for p in example_photos()], [photo], label="Or try one of these", elem_id="regions-examples",
                api_visibility="private",
            )  # fmt: skip
            drawing = Drawing(
                label="Paint where the first style goes",
                type="filepath",
                image_mode="RGBA",
                format="png",
                sources=(),
                transforms=(),
                layers=False,
                brush=gr.Brush(colors=["#ff3b7f"], default_size=60, color_mode="fixed"),
                canvas_size=(768, 768),
                height=480,
                elem_id="drawing",
                buttons=[],
                interactive=True,
            )
            drawing.most_bytes = studio.limits.file_bytes
        with gr.Column(scale=6, min_width=320):
            slider = gr.ImageSlider(
                label="Photograph and painting: move the line",
                type="filepath",
                format="png",
                interactive=False,
                elem_id="regions-result",
                buttons=["fullscreen"],
                max_height=480,
            )
            part = gr.Radio([("What I paint over", ""), ("People", PEOPLE)], value="", label="The part", elem_id="part")
            with gr.Row():
                either = {"none": AS_IT_IS, "min_width": page.BESIDE}
                inside = choosers.add(studio, "Style of the part", names[0] if names else None, elem_id="inside", **either)
                outside = choosers.add(studio, "Style elsewhere", names[1] if names[1:] else None, elem_id="outside", **either)
            with gr.Accordion("Use your own painting as one of the styles", open=False):
                gr.Markdown("Upload it here, then choose “My own painting” in one of the lists.")
                painting, style_file = page.own_style("regions")
            follow = gr.Checkbox(
                False,
                label="Follow the edges of what I painted over",
                info="A rough stroke over a person or a thing will do",
                visible=bool(opencv()),
                elem_id="follow",
            )
            with gr.Row():
                edge = gr.Slider(0, 30, SOFT, step=0.5, label="Soft edge", info="in % of the picture's width", min_width=page.BESIDE)
                strength = page.strength_slider()
            with gr.Row():
                faces = page.faces_slider()
                keep_colors = page.colors_box()
            show = gr.Button("Paint it", variant="primary", elem_id="regions-show")
            with gr.Row():
                format = page.format_choice()
                quality = page.quality_slider()
            finish = gr.Button("Download the painting", elem_id="regions-finish")
            file = gr.DownloadButton("Save the file", visible=False, elem_id="regions-file")

    def wish(inside, painting, style_file, strength, keep_colors, faces):
        return page.wish_of([(inside, 1)], painting, style_file, strength, keep_colors, None, faces=faces)

    @page.plain
    def start(photo, request: gr.Request):
        """A new photograph to draw on."""
        if not studio.newest.tell(page.visitor(request), "regions photo", photo):
            return gr.skip(), gr.skip(), gr.skip()
        return (ground(photo, request) if photo else None), None, gr.DownloadButton(visible=False)

    def ground(photo, request: gr.Request) -> dict:
        """What is drawn on, without strokes."""
        studio.shelf.hold(page.visitor(request), "regions photo", [photo])
        try:
            small = str(studio.small(photo, SCREEN))  # a larger one makes browsers slow
        except Exception:
            studio.newest.tell(page.visitor(request), "regions photo", None)  # so that it can be tried again
            raise
        studio.shelf.hold(page.visitor(request), "regions before", [small])
        return {"background": small, "layers": [], "composite": None}

    @page.plain
    def regions(
        photo, mask, inside, outside, edge=6, painting=None, style_file=None, strength=1, keep_colors=False, follow=False, faces=FACES,
        part="", request: gr.Request = None,
    ):  # fmt: skip
        """Paint the part under the mask in one style and the rest in another, at preview size. "" for a style leaves it as it is.

        mask: {"background": None, "layers": [pictures], "composite": None}; where a layer is opaque (or, without
        transparency, bright) is inside. edge: width of the soft edge in % of the picture's width. follow: bring the mask to the
        edges of what it lies on. faces: how much of the features of faces stays, 0 to 1. part: "people" to have them found, whatever is drawn.
        """
        chosen = wish(inside, painting, style_file, strength, keep_colors, faces)
        who = page.visitor(request)
        pair = studio.regions(who, photo, mask, chosen, outside, edge, bool(follow), part == PEOPLE)
        if studio.newest.replaced(who, "regions photo", photo):  # while it was painted
            return gr.skip(), gr.skip()
        return pair, gr.DownloadButton(visible=False)

    @page.plain
    def regions_file(
        photo, mask, inside, outside, edge=6, painting=None, style_file=None, strength=1, keep_colors=False, format="jpeg",
        quality=95, follow=False, faces=FACES, part="", request: gr.Request = None,
    ):  # fmt: skip
        """The same as /regions at full size, as a file of format "jpeg" or "png"."""
        chosen = wish(inside, painting, style_file, strength, keep_colors, faces)
        path = studio.finish_regions(page.visitor(request), photo, mask, chosen, outside, edge, format, quality, bool(follow), part == PEOPLE)
        return gr.DownloadButton(f"Save {path.name}, {path.stat().st_size / 1e6:.1f} MB", value=str(path), visible=True)

    @page.plain
    def begin_anew(photo, request: gr.Request):
        """Clearing takes the strokes away, and not the photograph below them, as Gradio's does."""
        return ground(photo, request) if photo else gr.skip()

    inputs = [photo, drawing, inside, outside, edge, painting, style_file, strength, keep_colors]
    follow.change(lambda follows: SHARP if follows else SOFT, follow, edge, api_visibility="private", show_progress="hidden", queue=False)
    part.change(
        lambda part: (gr.update(visible=not part and bool(opencv())), gr.update(visible=not part)), part, [follow, edge],
        api_visibility="private", show_progress="hidden", queue=False,
    )  # fmt: skip
    begun = photo.change(start, photo, [drawing, slider, file], api_visibility="private", show_progress="hidden", **page.QUEUE)
    begun.failure(
        lambda: (None, None, gr.DownloadButton(visible=False)), None, [drawing, slider, file],
        api_visibility="private", show_progress="hidden", queue=False,
    )  # fmt: skip
    drawing.clear(begin_anew, photo, drawing, api_visibility="private", show_progress="hidden", **page.QUEUE)
    show.click(regions, [*inputs, follow, faces, part], [slider, file], api_name="regions", show_progress_on=slider, **page.QUEUE)
    done = finish.click(regions_file, [*inputs, format, quality, follow, faces, part], file, api_name="regions_file", show_progress_on=slider, **page.QUEUE)
    done.success(None, file, None, js=SAVE, api_visibility="private")
