"""A shell's question how a word goes on, put so that typer understands it, and the answer so that the shell does.

bash takes words apart at ``:`` and ``=`` and replaces the last part. zsh and fish replace all of ``--style=ki``, for which typer gives
the end alone. To PowerShell a backslash is a letter like others, which typer takes for an escape.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO

LINE = "_TYPER_COMPLETE_ARGS"
VARIABLE = "_STYLENORM_COMPLETE"  # typer's, for a command of this name
OPTION = re.compile(r"--[\w-]+=")
QUOTED = re.compile(r"""'[^']*'|"[^"]*"|\\""")


@contextmanager
def understood(environment: MutableMapping[str, str] = os.environ) -> Iterator[None]:
    """Inside, the shell's question stands in ``environment`` as typer reads it; what is printed there, the shell gets as it reads it."""
    before = {name: environment[name] for name in ("COMP_WORDS", "COMP_CWORD", LINE) if name in environment}
    told, out = in_shell(environment), sys.stdout
    try:
        with redirect_stdout(StringIO()) as answer:
            yield
    finally:
        environment.update(before)
        out.write(told(answer.getvalue()))


def in_shell(environment: MutableMapping[str, str]) -> Callable[[str], str]:
    """What makes typer's answer the shell's; bash's question is put in order for typer."""
    kind = environment.get(VARIABLE, "").removeprefix("complete_")
    if kind == "bash" and "\n" in environment.get("COMP_WORDS", ""):
        return in_bash(environment)
    if kind in ("powershell", "pwsh") and LINE in environment:
        environment[LINE] = QUOTED.sub(lambda found: found[0] if found[0][0] == "'" else found[0].replace("\\", "\\\\"), environment[LINE])
    option = OPTION.match(environment.get(LINE, "").split(" ")[-1])
    if option and kind == "zsh":
        return lambda answer: f"compset -P '*='; {answer}"
    if option and kind == "fish":
        return lambda answer: "".join(option[0] + line for line in answer.splitlines(keepends=True) if line.strip())
    return lambda answer: answer


def in_bash(environment: MutableMapping[str, str]) -> Callable[[str], str]:
    parts = environment["COMP_WORDS"].split("\n")[: int(environment["COMP_CWORD"]) + 1]
    if not any(map(is_break, parts)):
        return lambda answer: answer
    words = joined(parts)
    environment.update(COMP_WORDS="\n".join(words), COMP_CWORD=str(len(words) - 1))
    option = OPTION.match(words[-1])
    kept = len(words[-1]) - (0 if is_break(parts[-1]) else len(parts[-1]))  # characters that bash leaves as they are

    def ends(answer: str) -> str:
        whole = [(option[0] if option else "") + line for line in answer.splitlines()]
        return "".join(f"{line[kept:]}\n" for line in whole if line.startswith(words[-1]))

    return ends


def joined(parts: list[str]) -> list[str]:
    """The words that bash has taken apart."""
    words: list[str] = []
    for part, before in zip(parts, ("", *parts)):
        if words and (is_break(part) or is_break(before)):
            words[-1] += part
        else:
            words.append(part)
    return words


def is_break(part: str) -> bool:
    return bool(part) and not part.strip(":=")
