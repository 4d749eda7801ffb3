"""How the page looks: the system's own fonts, nothing fetched from anywhere."""

from __future__ import annotations

from urllib.parse import quote

import gradio as gr

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")

THEME = gr.themes.Soft(
    primary_hue="indigo", secondary_hue="indigo", neutral_hue="slate", font=FONTS, font_mono=MONO, radius_size="md"
).set(  # so that it can be read, and a box that is not ticked can be seen
    background_fill_primary="*neutral_50",  # what Soft has, and `set` forgets
    body_text_color_subdued="*neutral_500",
    block_label_text_color="*primary_600",
    block_title_text_color="*primary_600",
    checkbox_border_color="*neutral_400",
    checkbox_border_color_dark="*neutral_400",
)

CSS = """
.gradio-container { width: 100%; max-width: 1280px !important; margin: 0 auto !important; }
.gradio-container .main.fillable { max-width: 1280px; }  /* Gradio has it 1024 px wide on all pages from there up to 1279 */
#heading h1 { margin-bottom: 0.1em; }
#heading p { opacity: 0.8; margin-top: 0; }
.status { min-height: 1.6em; }
.status p { margin: 0; opacity: 0.85; overflow-wrap: anywhere; }
button.lg { overflow-wrap: anywhere; }  /* with the name of a file */
.status .error, .status .clear-status { display: none; }
input[role=combobox] { padding-right: 1.4em !important; text-overflow: ellipsis; }
.styles-heading p { margin: 0.4em 0 0; }
.styles.styles .grid-wrap { max-height: 400px; min-height: 200px; }
.styles.styles .grid-container { grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)) !important; }
.styles.styles .caption-label {
  left: 0; right: 0; bottom: 0; max-width: none; margin: 0; padding: 2px 6px; border-radius: 0; box-shadow: none;
  background: rgba(0, 0, 0, 0.6); color: white; font-size: 12px; line-height: 1.35; text-align: center;
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; white-space: normal; overflow: hidden;
}
.block:has(> .checkbox-container) { min-width: min(260px, 100%) !important; }  /* Gradio has no min_width for a box to tick */
.icon-button-wrapper:not(:has(*)) { display: none; }  /* of no buttons, its border and shadow are a speck */
button.label-wrap > span:first-child { text-align: left; }
.styles.styles .thumbnail-item.selected, .styles.styles .thumbnail-item:focus-visible { outline: 3px solid var(--color-accent); }
input:is([type=range], [type=checkbox]):focus-visible, .reset-button:focus-visible, label:has([type=radio]:focus-visible) {  /* so that it can be seen where the keys are */
  outline: 3px solid var(--color-accent) !important; outline-offset: 3px;
}
#camera-painted img { width: 100%; height: 100%; object-fit: contain; }
#film-player video, #film-animation img { max-height: 480px; }
#film-player .controls:focus-within { opacity: 1; }  /* Gradio shows them under a mouse alone */
#compared .caption-label {
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; white-space: normal;
  max-width: calc(100% - 2 * var(--block-label-margin)); padding-bottom: 0 !important;  /* where a third line would show */
}
#compared .preview .caption { white-space: normal; max-width: 100%; overflow: visible; }
#compared .preview .media-button { height: auto !important; flex: 1; min-height: 0; }
#compared .preview .thumbnails { position: static; flex: none; }
:is(#result, #regions-result, #film-frame) label.float { max-width: calc(100% - 90px); }  /* beside it are buttons */
@media (max-width: 1024px) {
  #drawing label.float { margin-top: 28px; }
}
@media (max-width: 719px) {  /* where two columns have no room, as on phones, and on laptops at 200 % */
  .styles.styles .grid-wrap { max-height: 290px; }
  #compared .grid-container { grid-template-columns: repeat(2, 1fr) !important; }
  :is(#stylize, #camera-page, #film-page) { flex-flow: column nowrap; }
  :is(#stylize, #camera-page, #film-page) > .column { display: contents; }  /* so that the result can stand between the photograph and the styles */
  #photo, #examples { order: -3; }
  #camera, #film-file { order: -4; }
  #camera-leave { order: -3; }
  :is(#result, #camera-painted, #film-frame, #film-player, #film-animation) { order: -2; }
  :is(#status, #camera-status, #film-status) { order: -1; }
  #camera-painted { height: auto !important; }
  :is(#result, :is(#regions-result, #camera-painted, #film-frame):has(img)):not(.fullscreen) { position: sticky; top: 0; z-index: 50; }  /* in sight while things are changed */
  :is(#result, #regions-result, #camera-painted, #film-frame):not(.fullscreen) img { max-height: 40svh !important; }
  #generate-drawing label.float { margin-top: 28px; }
}
"""

# What Gradio 6 has no word for in any language: it shows, and has read out, "common.upload" and "common.complete".
WORDS = gr.I18n(en={"common": {"upload": "Upload", "complete": "Done"}})

SIGN = """<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><rect width='32' height='32' rx='7' fill='#4f46e5'/>
<g fill='none' stroke-linecap='round' stroke-width='4'><path d='M5 11c6-7 10 4 22-3' stroke='#fbbf24'/><path d='M5 18c6-7 10 4 22-3' stroke='#fb7185'/>
<path d='M5 25c6-7 10 4 22-3' stroke='#7dd3fc'/></g></svg>"""
# What comes with `HEAD` comes too late for an icon, and for asking before a page is left: Gradio hangs up at the same event.
EARLY = f"""<link rel="icon" href="data:image/svg+xml,{quote(SIGN)}">
<script>addEventListener("beforeunload", (event) => window.leaving?.(event));</script>"""

# Of the page as a whole on a phone, which Gradio lets no media query of CSS reach; nothing is sticky in what hides its overflow.
# Names for screen readers where Gradio has none, or only "Thumbnail 3 of 16"; and keys where it knows the mouse alone: a slider
# that the arrows moved, and a number at Enter, count as let go of, and the arrows drag the line between two pictures.
HEAD = """
<style>
@media (max-width: 719px) {
  .gradio-container { overflow: clip !important; }
}
@media (max-width: 640px) {
  .gradio-container .main { padding: 8px !important; }
  footer .show-api ~ .divider { display: none !important; }  /* between two, of which a phone has one */
}
.undrawable :is(#drawing, #generate-drawing)::after {
  content: "This browser shows nothing to draw on: it has no WebGL. Switch on its hardware acceleration, or use another browser.";
  position: absolute; inset: 40% 1rem auto; text-align: center;
}
#film-player[data-unplayable]::after {
  content: "This browser cannot play the film, for example because it knows no H.264. The file is whole: save it, and watch it elsewhere.";
  position: absolute; inset: 40% 1rem auto; padding: 0.5rem; text-align: center; background: var(--block-background-fill);
}
</style>
<script>
(() => {
  const canvas = document.createElement("canvas");  // with the tools of Gradio's editor, which needs one of these, and says nothing
  if (!navigator.gpu && !canvas.getContext("webgl2") && !canvas.getContext("webgl")) document.documentElement.classList.add("undrawable");
  const state = (element, what, is) => { if (element[what] !== String(is)) element[what] = String(is); };
  let reloading = false;  // by this page itself
  const working = () => ["film", "folder", "train", "network"].some((part) =>
    /^(\\d+( of about \\d+)? frames?(,|$)|\\d+ of \\d+(,|$)|Step \\d+)/.test(document.querySelector(`#${part}-status`)?.textContent.trim()));
  const tellPlace = (line) => {  // of the line between two pictures, in % of where it can be
    const whole = line.parentElement?.clientWidth;
    if (whole && line.style.transform) state(line, "ariaValueNow", Math.round((100 * new DOMMatrix(line.style.transform).e) / whole));
  };
  let broken = 0;  // since when Gradio says that the connection is; it does so in the last moment of any page that is left
  const name = () => {
    document.querySelectorAll("main").forEach((m) => state(m, "lang", "en"));  // whatever language one gives Gradio's words, the page stays English
    const toasts = [...document.querySelectorAll(".toast-body")];
    broken ||= toasts.some((t) => t.textContent.includes("Attempting reconnection")) ? Date.now() : 0;
    document.querySelectorAll(".styles .thumbnail-item, #compared .thumbnail-lg").forEach((b) => {
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
    document.querySelectorAll("#drawing canvas, #generate-drawing canvas").forEach((c) => {
      if (c.role !== "img") Object.assign(c, { role: "img", ariaLabel: "What is painted on" });
    });
    document.querySelectorAll("#camera .capture-button").forEach((b) => state(b, "ariaLabel", b.innerText.trim()));  // Record or Stop
    document.querySelectorAll("[data-testid=slider]").forEach((line) => {
      const about = { tabIndex: 0, role: "slider", ariaLabel: "The line between the two", ariaValueMin: "0", ariaValueMax: "100", ariaValueNow: "50" };
      if (line.role !== "slider") tellPlace(Object.assign(line, about));
    });
    document.querySelectorAll(".status:not(#camera-status) [data-testid=markdown]").forEach((line) => {  // that of a camera changes all the time
      if (line.role !== "status") line.role = "status";  // read out when it changes
    });
    document.querySelectorAll(".toast-title").forEach(({ firstChild: title }) => {  // Gradio 6 forgets the title of a gr.Error
      if (title?.nodeValue?.trim() === "Error") title.nodeValue = "That did not work ";
    });
    document.querySelectorAll("fieldset").forEach((f) => {
      const label = f.querySelector("[data-testid=block-info]")?.textContent.trim();  // to which nothing ties its choices
      if (label) state(f, "ariaLabel", label);
    });
    document.querySelectorAll("button.label-wrap").forEach((b) => state(b, "ariaExpanded", b.classList.contains("open")));
    document.querySelectorAll(".styles .thumbnail-item").forEach((b) => state(b, "ariaPressed", b.classList.contains("selected")));
  };
  document.addEventListener("click", (event) => {  // of a double click, each would paint, and save a file: Gradio sees too late that one is at work
    if (event.detail > 1 && event.target.closest("button.primary, #regions-finish")) event.stopImmediatePropagation();
  }, true);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Tab" || event.target.role !== "combobox") return;
    event.stopPropagation();  // at which Gradio opens the list that is left, over whatever is below it
    document.querySelectorAll("[role=listbox]").forEach((list) => { list.tabIndex = -1; });  // a long one is where Chrome goes next, and it closes
  }, true);
  document.addEventListener("keyup", ({ target, key }) => {
    const done = { range: /^(Arrow|Page|Home|End)/, number: /^Enter$/ }[target.type];
    if (done?.test(key)) target.dispatchEvent(new Event("pointerup", { bubbles: true }));
  });
  document.addEventListener("keydown", (event) => {
    const line = event.target.closest("[data-testid=slider]"), step = { ArrowLeft: -20, ArrowRight: 20 }[event.key];
    if (!line || !step) return;
    event.preventDefault();
    const box = line.getBoundingClientRect(), clientX = box.x + box.width / 2, clientY = box.y + box.height / 2;
    const mouse = (on, type, x) => on.dispatchEvent(new MouseEvent(type, { bubbles: true, view: window, clientX: x, clientY }));
    mouse(line, "mousedown", clientX);
    mouse(window, "mousemove", clientX + step);
    mouse(window, "mouseup", clientX + step);
  });
  // Some browsers do not know IMG_1.HEIC for a picture, and Gradio refuses what is none, or empties the field without a word.
  // The server looks into it, and says what it is.
  const isPicture = (f) => f.type.startsWith("image/");
  const typed = (files) => {
    const all = new DataTransfer();
    for (const f of files) all.items.add(isPicture(f) ? f : new File([f], f.name, { type: "image/unknown" }));
    return all;
  };
  const untyped = (files) => files && ![...files].every(isPicture);
  document.addEventListener("change", ({ target }) => {
    if (target.type === "file" && target.accept.includes("image/") && untyped(target.files)) target.files = typed(target.files).files;
  }, true);
  document.addEventListener("drop", (event) => {
    const input = event.target.closest?.(".upload-container")?.querySelector("input[type=file]"), files = event.dataTransfer?.files;
    if (input?.accept.includes("image/") && untyped(files)) Object.defineProperty(event, "dataTransfer", { value: typed(files) });
  }, true);
  const give = (input, file) => {
    const all = new DataTransfer();
    all.items.add(file);
    input.files = all.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  document.addEventListener("paste", ({ target, clipboardData }) => {  // a picture, wherever on the page one is, becomes the photograph
    const picture = [...clipboardData.files].find(isPicture);
    if (!picture || target.closest("textarea, [contenteditable], input:not([type=range], [type=radio], [type=checkbox])")) return;
    const inputs = [...document.querySelectorAll(":is(#photo, #regions-photo, #train-painting, #compare-photo) input[type=file]")];
    const input = inputs.find((i) => i.closest(".block").offsetParent);
    if (input) give(input, picture);
  });
  const unseen = "This browser cannot show this file", shown = "The picture";  // HEIC, TIFF, or what is no picture
  for (const type of ["error", "load"])
    document.addEventListener(type, ({ target: image }) => {
      if (image.tagName !== "IMG" || ![unseen, shown, ""].includes(image.alt)) return;
      image.alt = type === "error" ? unseen : shown;
      image.style.paddingTop = type === "error" ? "40px" : "";
    }, true);
  for (const type of ["error", "loadeddata"])
    document.addEventListener(type, ({ target }) => target.closest?.("#film-player")?.toggleAttribute("data-unplayable", type === "error"), true);
  const width = Object.getOwnPropertyDescriptor(HTMLVideoElement.prototype, "videoWidth");
  Object.defineProperty(HTMLVideoElement.prototype, "videoWidth", {  // Gradio sends no picture of a camera that has none yet
    ...width,
    get() { return this.closest("#camera") && (document.hidden || !this.offsetParent) ? 0 : width.get.call(this); },
  });
  const lost = () => { sessionStorage.lost = document.querySelector("#photo img")?.src || "none"; };  // the connection, and the photograph with it
  window.leaving = (event) => {
    if (broken) return Date.now() - broken > 1000 && lost();  // Gradio loads the page anew, too
    if (!working() || reloading) return;
    event.preventDefault();  // what is at work ends with its page: the browser asks
    event.stopImmediatePropagation();  // and Gradio does not hang up yet
  };
  const url = sessionStorage.lost;
  sessionStorage.removeItem("lost");
  const back = async () => {
    const heading = document.querySelector("#heading"), input = document.querySelector("#photo input[type=file]");
    if (!heading || !input || !document.querySelector("#gallery img")) return;
    clearInterval(looking);
    const kept = url !== "none" && await fetch(url, { cache: "force-cache" }).then((answer) => answer.ok && answer.blob()).catch(() => null);
    if (kept) {  // what the browser still has of before, with which the server has done away
      give(input, new File([kept], decodeURIComponent(url.split("/").pop()), { type: kept.type }));
    }
    const told = `The connection to the server was lost, so this page was loaded anew: ${kept ? "with your photograph, but " : ""}without your settings and ${kept ? "other " : ""}files.`;
    heading.append(Object.assign(document.createElement("p"), { role: "status", textContent: told }));
  };
  const looking = url && setInterval(back, 500);
  const restarted = async () => {  // what this page shows is gone then, and each click would fail; Gradio looks only when a click failed
    if (document.hidden || !window.gradio_config?.app_id) return;
    const answer = await fetch(`${gradio_config.root}${gradio_config.api_prefix}/app_id`).catch(() => null);
    if (!answer?.ok || (await answer.json()).app_id === gradio_config.app_id) return;
    if (Date.now() - (sessionStorage.reloaded || 0) < 60000) return;  // several servers behind one address would have it load for ever
    sessionStorage.reloaded = Date.now();
    lost();
    reloading = true;
    location.reload();
  };
  setInterval(restarted, 5000);
  document.addEventListener("visibilitychange", restarted);
  new MutationObserver(name).observe(document, { childList: true, subtree: true, attributeFilter: ["class"] });
  const moved = (changes) => changes.forEach(({ target }) => target.dataset.testid === "slider" && tellPlace(target));
  new MutationObserver(moved).observe(document, { subtree: true, attributeFilter: ["style"] });
})();
</script>
"""
