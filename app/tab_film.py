"""Films and animated pictures, painted frame by frame."""

from __future__ import annotations

import time

import gradio as gr

from . import page
from .cinema import Cinema
from .library import ANIMATABLE, FACES, FILMS, Cancelled, counted
from .parts import Files, Player
from .studio import Studio

BEGIN = "Add a film, or an animated GIF, WebP or PNG. Its strokes stay on what they are painted on."
HIDDEN = {"visible": False}


def tab(studio: Studio, choosers: page.Choosers) -> None:
    cinema = Cinema(studio)
    with gr.Row(equal_height=False, elem_id="film-page"):
        with gr.Column(scale=5, min_width=320):
            film = Files(
                label="A film, or an animated picture", file_types=["video", *sorted(FILMS), *ANIMATABLE], height=170, elem_id="film-file"
            )
            gr.Markdown("**Choose a style** by what it does to a photograph", elem_classes="styles-heading")
            gallery = page.style_gallery("film-gallery")
            style = choosers.add(studio, "Style", studio.first(), elem_id="film-style")
            with gr.Accordion("Use your own painting as the style", open=False):
                painting, style_file = page.own_style("film")
        with gr.Column(scale=7, min_width=320):
            slider = gr.ImageSlider(
                label="A frame and its painting: move the line", type="filepath", format="png", interactive=False, elem_id="film-frame",
                slider_position=50, buttons=["fullscreen"], max_height=480,
            )  # fmt: skip
            player = Player(label="The painted film", interactive=False, elem_id="film-player", buttons=[], **HIDDEN)
            moving = gr.Image(
                label="The painted animation", type="filepath", interactive=False, elem_id="film-animation", buttons=["fullscreen"],
                alt_text="The painted animation", **HIDDEN,
            )  # fmt: skip
            status = page.status_line("film-status", BEGIN)
            with gr.Row():
                strength = page.strength_slider(info="0 is the film, 1 is all painting")
                faces = page.faces_slider()
            where = page.where_choice()
            with gr.Accordion("Paint only where a mask of your own is white", open=False, elem_id="film-masked"):
                mask = Files(
                    label="A picture, or a film as long as yours", file_types=["video", "image", *sorted(FILMS)],
                    height=140, elem_id="film-mask",
                )  # fmt: skip
                inverted = gr.Checkbox(False, label="The other way round: where it is black")
            keep_colors = gr.Checkbox(False, label="Keep the film's colours")
            with gr.Row():
                strokes = page.strokes_choice()
                size = page.size_choice("As the film")
            with gr.Row():
                run = gr.Button("Paint the film", variant="primary", elem_id="film-run", size="lg")
                stop = gr.Button("Stop here", elem_id="film-stop", size="lg")
            file = gr.DownloadButton("Save the file", elem_id="film-save", **HIDDEN)

    def wish(style, painting, style_file, strength, keep_colors, size, strokes, faces, where, mask, inverted):
        more = {"strokes": strokes, "faces": faces, "where": where, "mask_file": mask, "inverted": bool(inverted)}
        return page.wish_of([(style, 1)], painting, style_file, strength, keep_colors, size, **more)

    @page.plain
    def one_frame(film, style, painting, style_file, strength, keep_colors, size, strokes, faces, where, mask, inverted, request: gr.Request):
        nothing = gr.update(**HIDDEN)
        if not film:
            return gr.update(value=None, visible=True), BEGIN, nothing, nothing
        wanted = wish(style, painting, style_file, strength, keep_colors, size, strokes, faces, where, mask, inverted)
        found, pair = cinema.preview(page.visitor(request), film, wanted)
        return gr.update(value=pair, visible=True), f"{found.told()}. This is one frame of it.", nothing, nothing

    @page.plain
    def paint_film(
        film, style, painting=None, style_file=None, strength=1, keep_colors=False, size=None, strokes=1, faces=FACES, where="",
        mask=None, inverted=False, request: gr.Request = None,
    ):  # fmt: skip
        """Paint a film, with its sound, or an animated GIF, WebP or PNG, frame by frame.

        film: the file. size: longer side in pixels, 0 for the film's. strokes: 1.6, 1 or 0.625 times as large as usual.
        faces: how much of the features of faces stays where strokes would go across them, 0 to 1. where: "people" or "background" to
        have these alone painted, which are looked for in each frame; "" for all of it. mask: a file, to paint only where it is white: a
        picture for all frames, or a film or an animation with one for each. inverted: only where it is black.
        Returns again and again a line about the progress and the latest frame with its painting, and at the end the file: an
        .mp4, or an animation. Stop it with /stop_film: a film ends there then, of an animation nothing is kept.
        """
        who, started = page.visitor(request), time.perf_counter()
        nothing, shown = gr.update(**HIDDEN), gr.update(visible=True)
        with studio.stops.work(who, "film") as event, studio.turn(event) as over:
            try:
                wanted = wish(style, painting, style_file, strength, keep_colors, size, strokes, faces, where, mask, inverted)
                for look in cinema.paint(who, film, wanted, event):
                    if look.path is None:
                        pair = gr.update(value=look.pair, visible=True) if look.pair else shown
                        yield progress(look), pair, nothing, nothing, nothing
            except Cancelled:
                yield f"{page.stopped(studio, over)}; nothing was kept.", shown, nothing, nothing, nothing
                return
        path, seconds = look.path, time.perf_counter() - started
        ready = f"{path.name}, {path.stat().st_size / 1e6:.1f} MB"
        frames = counted(look.done, "frame")
        notes = "".join(f" {page.sentence(note)}" for note in look.notes)
        said = f"{'' if look.whole else page.stopped(studio, over) + ': the first '}{frames} painted in {page.duration(seconds)}: {page.as_text(ready)}.{page.as_text(notes)}"
        is_film = path.suffix == ".mp4"
        yield (
            said, nothing, gr.update(value=str(path) if is_film else None, visible=is_film),
            gr.update(value=None if is_film else str(path), visible=not is_film),
            gr.DownloadButton(f"Save {ready}", value=str(path), visible=True),
        )  # fmt: skip

    def stop_film(request: gr.Request):
        """Stop the film that this visitor is having painted."""
        return "Stopping." if studio.stops.ask(page.visitor(request), "film") else "Nothing is being painted."

    inputs = [film, style, painting, style_file, strength, keep_colors, size, strokes, faces, where, mask, inverted]
    changes = [film.change, style.change, keep_colors.change, size.change, strokes.change, strength.release, faces.release, where.change]
    looked = gr.on(
        [*changes, painting.change, style_file.change, mask.change, inverted.change], one_frame, inputs, [slider, status, player, moving],
        api_visibility="private", trigger_mode="always_last", show_progress="minimal", show_progress_on=slider, **page.QUEUE,
    )  # fmt: skip
    nothing = gr.update(**HIDDEN)
    looked.failure(
        lambda: (gr.update(value=None, visible=True), page.FAILED, nothing, nothing), None, [slider, status, player, moving],
        api_visibility="private", show_progress="hidden", queue=False,
    )  # fmt: skip
    film.change(lambda: nothing, None, file, api_visibility="private", show_progress="hidden", queue=False)  # that of the one before
    page.expect(run, studio, "film")
    running = run.click(
        paint_film, inputs, [status, slider, player, moving, file],
        api_name="film", show_progress="minimal", show_progress_on=status, **page.QUEUE,
    )  # fmt: skip
    page.expect_no_more(running, studio, "film")
    stop.click(stop_film, None, status, api_name="stop_film", queue=False)
    page.join(choosers, studio, gallery, style)
    page.use_own(style, painting, style_file)


def progress(look) -> str:
    of = f" of about {look.total}" if look.total else ""
    return f"{look.done}{of} frames" + (f", about {page.duration(look.left)} left" if look.left is not None else "")
