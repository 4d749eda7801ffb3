"""How the page looks: the system's own fonts, nothing fetched from anywhere."""

from __future__ import annotations

import gradio as gr

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")

THEME = gr.themes.Soft(
    primary_hue="indigo", secondary_hue="indigo", neutral_hue="slate", font=FONTS, font_mono=MONO, radius_size="md"
)

CSS = """
.gradio-container { max-width: 1280px !important; margin: 0 auto !important; }
#heading h1 { margin-bottom: 0.1em; }
#heading p { opacity: 0.8; margin-top: 0; }
.status { min-height: 1.6em; }
.status p { margin: 0; opacity: 0.85; }
#gallery-heading p { margin: 0.4em 0 0; }
#gallery .grid-wrap { max-height: 400px; min-height: 200px; }
#gallery .grid-container { grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)) !important; }
#gallery .caption-label {
  left: 0; right: 0; bottom: 0; max-width: none; margin: 0; padding: 2px 6px; border-radius: 0; box-shadow: none;
  background: rgba(0, 0, 0, 0.6); color: white; font-size: 12px; line-height: 1.35; text-align: center;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis;
}
#gallery .thumbnail-item.selected, #gallery .thumbnail-item:focus-visible { outline: 3px solid var(--color-accent); }
@media (max-width: 640px) {
  .gradio-container .main { padding: 8px !important; }
  #gallery .grid-wrap { max-height: 290px; }
}
"""

# Names for screen readers where Gradio has none, or only "Thumbnail 3 of 16".
HEAD = """
<script>
(() => {
  const name = () => {
    document.querySelectorAll("#gallery .thumbnail-item").forEach((b) => {
      const alt = b.querySelector("img")?.alt;
      if (alt && b.title !== alt) { b.title = alt; b.setAttribute("aria-label", alt); }
    });
    document.querySelectorAll("button.gallery-item img").forEach((i) => {
      if (!i.alt) i.alt = "Example: " + decodeURI(i.src).split("/").pop().split(".")[0];
    });
    document.querySelectorAll("[data-testid=imageslider-image]").forEach((i) => {
      const alt = i.classList.contains("fixed") ? "The painting" : "The photograph";
      if (i.alt !== alt) i.alt = alt;
    });
  };
  new MutationObserver(name).observe(document, { childList: true, subtree: true });
})();
</script>
"""
