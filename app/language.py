"""One language on the page. Gradio has its own words in thirty, and takes the browser's: "Bild hier ablegen" amid English."""

from __future__ import annotations

# Gradio asks for this before it runs anything of ours; no setting of it names a language.
SCRIPT = b'<script>Object.defineProperty(navigator, "language", { get: () => "en" })</script>'


class English:
    """An ASGI application around ``app``, whose pages have `SCRIPT` first in their head, and ``beside``."""

    def __init__(self, app, beside: str = "") -> None:
        self.app, self.first = app, b"<head>" + SCRIPT + beside.encode()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or "/gradio_api/" in scope["path"]:  # nor what somebody uploaded
            await self.app(scope, receive, send)
            return
        start, parts = None, []

        async def put_in(message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and b"text/html" in dict(message["headers"]).get(b"content-type", b""):
                start = message
            elif start is None:
                await send(message)
            else:
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    body = b"".join(parts).replace(b"<head>", self.first, 1)
                    headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
                    await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
                    await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, put_in)
