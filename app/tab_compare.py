"""The same photograph through networks that normalize differently."""

from __future__ import annotations

import gradio as gr

from . import page
from .library import CHANGES
from .parts import Choice
from .studio import COMPARED, UNCHANGED, Studio, example_photos


def tab(studio: Studio) -> None:
    gr.Markdown(
        "A network like this one brings the numbers inside it back to a common scale again and again, and the style is what "
        "it scales them to next. Over what this is done makes a difference that one can see:\n\n"
        + "\n".join(f"- **{title}** evens out {sentence}" for title, sentence in COMPARED.values())
    )
    missing = [COMPARED[kind][0] for kind in COMPARED if kind not in studio.comparable()]
    if missing:
        gr.Markdown(f"This copy comes without a network for: {', '.join(missing)}.")
    styles, titles = studio.compared_styles(), {name: label for label, name in studio.labels().items()}
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            photo = page.photo_input("compare-photo", height=220)
            gr.Examples(
                [[str(p)] for p in example_photos()], [photo], label="Or try one of these", api_visibility="private"
            )
            titled = [(titles.get(name, name), name) for name in styles]
            style = Choice(titled, value=styles[0] if styles else None, label="Style", elem_id="compare-style")
            change = Choice([UNCHANGED, *CHANGES], value=UNCHANGED, label="The photograph", elem_id="compare-change")
            run = gr.Button("Compare", variant="primary", elem_id="compare-run")
        with gr.Column(scale=8, min_width=300):
            shown = gr.Gallery(
                label="Side by side", columns=3, object_fit="contain", height=620, elem_id="compared", format="jpeg",
                interactive=False, buttons=["fullscreen"],
            )  # fmt: skip

    @page.plain
    def compare(photo, style, change, request: gr.Request):
        """Paint a photograph by a network of each kind of normalization: pictures with a sentence about each."""
        return [(str(path), text) for path, text in studio.compare(page.visitor(request), photo, style, change)]

    done = run.click(compare, [photo, style, change], shown, api_name="compare", **page.QUEUE)
    page.hold(studio, photo)
    done.failure(lambda: None, None, shown, api_visibility="private", show_progress="hidden", queue=False)  # else of the photograph before
