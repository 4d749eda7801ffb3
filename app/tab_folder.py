"""Many photographs at once, and one zip back."""

from __future__ import annotations

import gradio as gr

from . import page
from .library import FACES, StylenormError
from .parts import Files
from .studio import Studio


def tab(studio: Studio, choosers: page.Choosers) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            files = Files(
                label="Photographs, or zips",
                file_count="multiple",
                type="filepath",
                height=180,
                elem_id="folder-files",
            )
            style = choosers.add(studio, "Style", studio.first(), elem_id="folder-style")
            with gr.Accordion("Use your own painting as the style", open=False):
                painting, style_file = page.own_style("folder")
            with gr.Row():
                strength = page.strength_slider()
                faces = page.faces_slider()
            where = page.where_choice()
            keep_colors = page.colors_box()
            with gr.Row():
                strokes = page.strokes_choice()
                size = page.size_choice()
            format = page.format_choice()
            quality = page.quality_slider()
            with gr.Row():
                run = gr.Button("Paint them all", variant="primary", elem_id="folder-run")
                stop = gr.Button("Stop", elem_id="folder-stop")
        with gr.Column(scale=7, min_width=320):
            status = page.status_line("folder-status", "Add photographs to begin.")
            table = gr.Dataframe(
                headers=["File", "Result", "Details"],
                datatype="str",
                interactive=False,
                wrap=True,
                label="Files",
                elem_id="folder-table",
                max_height=420,
                column_widths=["30%", "25%", "45%"],
                buttons=[],
            )
            zipped = gr.File(label="All paintings in one zip", interactive=False, elem_id="folder-zip", height=90)

    @page.plain
    def folder(
        files, style, painting=None, style_file=None, strength=1, keep_colors=False, size=None, strokes=1, format="jpeg",
        quality=95, faces=FACES, where="", request: gr.Request = None,
    ):  # fmt: skip
        """Paint many photographs in one style.

        files: pictures and zips of pictures. faces: how much of the features of faces stays, 0 to 1. where: "people" or "background" to
        have these alone painted, which are looked for; "" for all of each. Returns a line about the progress, a table with a row for
        each file, and at the end a zip that keeps names and folders. A broken file gets a row, and the rest goes on.
        Stop it with /stop_folder: the zip has what is painted by then.
        """
        if not files:
            raise StylenormError("add photographs, or a zip of them, first")
        who = page.visitor(request)
        wish = page.wish_of([(style, 1)], painting, style_file, strength, keep_colors, size, strokes=strokes, faces=faces, where=where)
        with studio.stops.work(who, "folder") as stop, studio.turn(stop) as over:
            for done, count, left, rows, path in studio.folder(who, files, wish, format, quality, stop.is_set):
                broken = sum(row[1] == "left out" for row in rows)
                line = f"{done} of {count}" + (f", about {page.duration(left)} left" if left else "")
                if left == 0.0:
                    said = page.stopped(studio, over) if done < count else "Done"
                    line = f"{said}: {done - broken} of {count} painted" + (f", {broken} left out; see the table" if broken else "")
                yield line, list(rows), str(path) if path else None

    def stop_folder(request: gr.Request):
        """Stop the folder that this visitor is having painted; what is painted is kept."""
        return "Stopping: no further picture is begun." if studio.stops.ask(page.visitor(request), "folder") else "Nothing is being painted."

    page.expect(run, studio, "folder")
    running = run.click(
        folder, [files, style, painting, style_file, strength, keep_colors, size, strokes, format, quality, faces, where], [status, table, zipped],
        api_name="folder", show_progress="minimal", show_progress_on=status, **page.QUEUE,
    )  # fmt: skip
    page.expect_no_more(running, studio, "folder")
    stop.click(stop_folder, None, status, api_name="stop_folder", queue=False)
    page.use_own(style, painting, style_file)
    page.hold(studio, files, painting, style_file)
