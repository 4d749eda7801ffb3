"""The lab's page: one HTML file with all tables and plots in it, which needs nothing from outside."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

from stylenorm.errors import counted
from stylenorm.lab_result import Result, Row, shown

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.15rem 1rem 0.15rem 0; border-bottom: 1px solid #eee; vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
code { background: #f4f4f4; padding: 0.15rem 0.4rem; }
img { max-width: 100%; }
.failed { color: #b00020; font-weight: bold; }
.holds { color: #1b6e3c; }
.note { color: #555; }
"""


def page(results: Sequence[Result], plots: Mapping[str, bytes], about: str) -> str:
    """HTML for ``results``, each with its PNG file from ``plots``. ``about`` says how they were made."""
    held = sum(result.holds for result in results)
    contents = "".join(
        f'<tr><td><a href="#{r.name}">{r.name}</a></td><td>{escape(r.claim)}</td>{_verdict(r.verdict)}</tr>' for r in results
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>stylenorm lab</title>'
        f"<style>{STYLE}</style></head><body>\n<h1>What normalization does, by numbers</h1>\n"
        f"<p>{held} of {counted(len(results), 'experiment')} {'holds' if held == 1 else 'hold'}. {escape(about)}</p>\n"
        f"<table>{contents}</table>\n" + "".join(_section(r, plots[r.name]) for r in results) + "</body></html>\n"
    )


def _section(result: Result, plot: bytes) -> str:
    notes = f'<p class="note">{escape(result.note)}</p>' if result.note else ""
    paper = f'<p class="note">{escape(result.paper)}</p>' if result.paper else ""
    head = "<tr><th>quantity</th><th>predicted</th><th>measured</th><th>verdict</th></tr>"
    return (
        f'<h2 id="{result.name}">{result.name}</h2>\n<p>{escape(result.claim)}</p>\n'
        f"<p><code>{escape(result.formula)}</code></p>\n"
        f'<img alt="Plot of {result.name}" src="data:image/png;base64,{b64encode(plot).decode()}">\n'
        f"<table>{head}{''.join(map(_line, result.rows))}</table>\n{notes}{paper}\n"
    )


def _line(row: Row) -> str:
    numbers = "".join(f'<td class="number">{escape(text)}</td>' for text in (row.expectation, shown(row.measured)))
    return f"<tr><td>{escape(row.quantity)}</td>{numbers}{_verdict(row.verdict)}</tr>"


def _verdict(word: str) -> str:
    return f'<td class="{word}">{word}</td>'
