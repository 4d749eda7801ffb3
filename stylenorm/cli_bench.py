"""What the verb bench measures, by its options: one thing at a time, and no option that would do nothing."""

from __future__ import annotations

import typer

from stylenorm.errors import StylenormError

# What is measured, and the options that say how, beside those that count for all. The first six are options themselves.
TAKES = {
    "generate": ("styles", "pictures", "names", "network", "dead"),
    "film": ("peer",),
    "plain": ("peer",),
    "faces": ("photos", "pictures", "names", "peer"),
    "each": ("photos", "styles", "pictures", "peer"),
    "new_style": ("photos", "styles", "pictures", "names"),
    "quality": ("photos", "styles", "paintings", "pictures", "pairs", "refine", "peer"),
    "speed": ("size", "repeats", "peer"),
}
FOLDERS = {"photos", "styles", "paintings"}
NEEDS = {"faces": {"photos"}, "each": {"photos", "styles"}, "new_style": {"photos", "styles"}}
OF = {"pictures": "styles", "pairs": "paintings", "refine": "paintings"}  # of quality: what such an option says more of


def check_options(context: typer.Context) -> None:
    """Refuse what would do nothing beside the rest, and what lacks a folder. Raises `StylenormError`."""
    options = dict.fromkeys(option for own in TAKES.values() for option in own)
    given = {name for name in (*TAKES, *options) if name in context.params and context.get_parameter_source(name).name == "COMMANDLINE"}
    chosen = [name for name in TAKES if name in given]
    if len(chosen) > 1:
        raise StylenormError(f"{told(chosen[0])} and {told(chosen[1])} are measured each by itself; give one of them")
    measured = (chosen or ["quality" if given & FOLDERS else "speed"])[0]
    for option in options:
        if option in given and option not in TAKES[measured]:
            those = " or ".join(told(name) for name, own in TAKES.items() if option in own)
            raise StylenormError(f"bench takes {told(option)} for {those}, not for {told(measured)}; leave it out")
    if measured == "quality" and not ("photos" in given and given & {"styles", "paintings"}):
        raise StylenormError("quality needs --photos and, beside them, --styles or --paintings or both")
    if missing := [told(name) for name in options if name in NEEDS.get(measured, set()) - given]:
        raise StylenormError(f"give {' and '.join(missing)} beside {told(measured)}")
    for option, folder in OF.items() if measured == "quality" else ():
        if option in given and folder not in given:
            raise StylenormError(f"--{option} is about {told(folder)}; give a folder of them, or leave it out")


def told(name: str) -> str:
    """What is measured, or an option, in a message."""
    return name if name in ("quality", "speed") else f"--{name.replace('_', '-')}"
