"""The first tab: a photograph, a style, the painting beside the photograph, the file."""

from __future__ import annotations

import time

import gradio as gr

from . import page
from .library import FACES
from .studio import PAINTING, STYLE_FILE, Studio, example_photo, example_photos

EXAMPLE = "This is an example. Add a photograph of your own to begin."
AS_IT_IS = gr.skip(), gr.skip(), gr.skip()

# Saves the file of a button, which is hidden where another style was painted in the meantime.
SAVE = """(file) => {
  const link = document.createElement("a");
  Object.assign(link, { href: file.url, download: file.path.split(/[\\\\/]/).pop() });
  document.body.append(link);
  link.click();
  link.remove();
}"""


def tab(studio: Studio, choosers: page.Choosers) -> gr.ImageSlider:
    with gr.Row(equal_height=False, elem_id="stylize"):
        with gr.Column(scale=5, min_width=320):
            photo = page.photo_input("photo")
            gr.Examples(
                [[str(p)] for p in example_photos()],
                [photo],
                label="No photograph at hand? Try one of these",
                elem_id="examples",
                api_visibility="private",
            )
            gr.Markdown("**Choose a style** by what it does to a photograph", elem_classes="styles-heading")
            gallery = page.style_gallery("gallery")
            style = choosers.add(studio, "Style", studio.first(), elem_id="style")
            with gr.Accordion("Use your own painting as the style", open=False, elem_id="own"):
                painting, style_file = page.own_style("own")
                closer = page.closer_box()
            with gr.Accordion("Blend with up to three more styles", open=False, elem_id="blend"):
                share = gr.Slider(0, 1, 1, step=0.05, label="Share of the first style")
                more = []
                for number in (2, 3, 4):
                    with gr.Row():
                        other = choosers.add(studio, f"Style {number}", "", none="none", min_width=140)
                        more += [other, gr.Slider(0, 1, 0.5, step=0.05, label=f"Share of style {number}", min_width=140)]
        with gr.Column(scale=7, min_width=320):
            slider = gr.ImageSlider(
                label="Photograph and painting: move the line",
                type="filepath",
                format="png",
                interactive=False,
                elem_id="result",
                slider_position=50,
                buttons=["fullscreen"],
                max_height=560,
            )
            status = page.status_line("status", EXAMPLE)
            with gr.Row():
                strength = page.strength_slider()
                faces = page.faces_slider()
            where = page.where_choice()
            keep_colors = page.colors_box()
            with gr.Row():
                strokes = page.strokes_choice()
                size = page.size_choice()
            with gr.Row():
                format = page.format_choice()
                quality = page.quality_slider()
            finish = gr.Button("Download the painting", variant="primary", elem_id="finish", size="lg")
            file = gr.DownloadButton("Save the file", visible=False, elem_id="file")

    @page.plain
    def preview(
        photo=None, style=None, share=1, style_2=None, share_2=0, style_3=None, share_3=0, style_4=None, share_4=0,
        painting=None, style_file=None, strength=1, keep_colors=False, size=None, closer=False, strokes=1, faces=FACES,
        where="", request: gr.Request = None,
    ):  # fmt: skip
        """Paint a photograph at preview size (1.2 megapixels at most).

        Returns the photograph and the painting at that size, and a line about them. Without a photograph, an example.
        """
        hidden = gr.DownloadButton(visible=False)
        if not (photo or style):
            return studio.example(), EXAMPLE, hidden
        styles = [(style, share), (style_2, share_2), (style_3, share_3), (style_4, share_4)]
        wish = page.wish_of(styles, painting, style_file, strength, keep_colors, size, closer, strokes, faces, where)
        who, started = page.visitor(request), time.perf_counter()
        if studio.newest.replaced(who, "photo", photo) or not studio.newest.ask(who, (photo, wish)):
            return AS_IT_IS
        try:
            pair = studio.preview(who, photo or str(example_photo()), wish)
        except Exception:
            studio.newest.unseen(who, (photo, wish))
            raise
        if studio.newest.replaced(who, "photo", photo):  # while it was painted
            studio.newest.unseen(who, (photo, wish))
            return AS_IT_IS
        if not photo:
            return pair, EXAMPLE, hidden
        seconds = time.perf_counter() - started
        moving = " It moves, and this is its first frame; the tab “Film” paints them all." if studio.moves(photo) else ""
        return pair, f"A preview, painted in {seconds:.1f} s. The download has full size.{moving}", hidden

    @page.plain
    def stylize(
        photo=None, style=None, share=1, style_2=None, share_2=0, style_3=None, share_3=0, style_4=None, share_4=0,
        painting=None, style_file=None, strength=1, keep_colors=False, size=None, closer=False, strokes=1, format="jpeg",
        quality=95, faces=FACES, where="", request: gr.Request = None,
    ):  # fmt: skip
        """Paint a photograph at full size and return the file, with the photograph's EXIF, XMP and colour profile.

        photo: the photograph. style, style_2...4: names from /styles, or ":painting" or ":file" for what is uploaded
        as painting or style_file; the shares say how much of each. strength: 0 is the photograph, 1 the painting.
        size: longer side in pixels, 0 for the photograph's. closer: refine the painting's style on the photograph.
        strokes: 1.6, 1 or 0.625 times as large as usual. format: "jpeg" or "png".
        faces: how much of the features of faces stays where strokes would go across them, 0 to 1. where: "people" or "background" to
        have these alone painted, which are looked for; "" for all of it.
        """
        styles = [(style, share), (style_2, share_2), (style_3, share_3), (style_4, share_4)]
        wish = page.wish_of(styles, painting, style_file, strength, keep_colors, size, closer, strokes, faces, where)
        started = time.perf_counter()
        path = studio.finish(page.visitor(request), photo, wish, format, quality)
        seconds = time.perf_counter() - started
        ready = f"{path.name}, {path.stat().st_size / 1e6:.1f} MB"
        return gr.DownloadButton(f"Save {ready}", value=str(path), visible=True), f"Painted in {seconds:.1f} s: {page.as_text(ready)}"

    wish = [style, share, *more, painting, style_file, strength, keep_colors, size, closer, strokes]
    replaced = gr.State(0)  # how many times an upload that a chosen style stands for became another one; told through the queue alone
    names = [style, *more[::2]]
    for upload, name in ((painting, PAINTING), (style_file, STYLE_FILE)):
        upload.change(count_if_used(name), [replaced, *names], replaced, api_visibility="private", show_progress="hidden")

    def tell(photo, request: gr.Request) -> None:
        studio.newest.tell(page.visitor(request), "photo", photo)

    photo.change(tell, photo, None, api_visibility="private", show_progress="hidden", concurrency_limit=1)  # one after another
    changes = [photo.change, style.change, where.change, keep_colors.change, size.change, closer.change, strokes.change, strength.release, share.release]
    changes += [faces.release, *(part.release if isinstance(part, gr.Slider) else part.change for part in more), replaced.change]

    def failed(request: gr.Request):
        """The painting of before is not of what is chosen now, and looked as if it were."""
        studio.newest.ask(page.visitor(request), None)
        return None, page.FAILED, gr.DownloadButton(visible=False)

    looked = gr.on(
        changes, preview, [photo, *wish, faces, where], [slider, status, file],
        api_name="preview", trigger_mode="always_last", show_progress="minimal", show_progress_on=slider, **page.QUEUE,
    )  # fmt: skip
    looked.failure(failed, None, [slider, status, file], api_visibility="private", show_progress="hidden", queue=False)
    done = finish.click(
        stylize, [photo, *wish, format, quality, faces, where], [file, status], api_name="stylize", show_progress_on=status, **page.QUEUE
    )
    done.success(None, file, None, js=SAVE, api_visibility="private")
    page.join(choosers, studio, gallery, style)
    page.use_own(style, painting, style_file)
    return slider


def count_if_used(upload: str):
    """One more if ``upload`` is among the chosen styles. Where it is not yet, it is chosen in a moment, and painted then."""

    def count(number: int, *names: str | None):
        return number + 1 if upload in names else gr.skip()

    return count
