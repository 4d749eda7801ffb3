"""The verb for other programs, export."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from stylenorm import __version__
from stylenorm.catalog import network_file
from stylenorm.cli_parts import AsJson, Grain, Weights, verbs
from stylenorm.compat import import_torch
from stylenorm.errors import StylenormError, counted, how_to_install

app = verbs()

ENDING = {"onnx": ".onnx", "torchscript": ".pt", "torch-export": ".pt2"}


@app.command(
    epilog="""\b
Examples:
  stylenorm export --format onnx -o stylenorm.onnx
  stylenorm export --format torchscript -o stylenorm.pt
  stylenorm export --format torch-export -o stylenorm.pt2 --weights mine/

\b
Using it elsewhere; photo is a numpy array (1, 3, H, W), float32 from 0 to 1:
  styles = numpy.load("stylenorm.onnx.styles.npz")
  style = 0.7 * styles["kiss"] + 0.3 * styles["scream"]
  session = onnxruntime.InferenceSession("stylenorm.onnx")
  (painting,) = session.run(None, {"content": photo, "style": style})
  program = torch.jit.load("stylenorm.pt")
  program = torch.export.load("stylenorm.pt2").module()
  painting = program(torch.tensor(photo), torch.tensor(style))
"""
)
def export(
    format: Annotated[Literal["onnx", "torchscript", "torch-export"], typer.Option(help="What to write.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file; ends in .onnx, .pt or .pt2.")],
    weights: Weights = None,
    grain: Grain = True,
    as_json: AsJson = False,
) -> None:
    """Write the network for use without stylenorm, for pictures of any size.

    It takes two inputs: content (1, 3, H, W), float32 from 0 to 1, and style
    (1, 2, T), the γ and then the β of all T channels. It gives the painting,
    (1, 3, H, W). The named styles are written beside it, FILE.styles.npz, an
    array (1, 2, T) for each name; a weighted mean of them is a blend. What was
    written is read again and compared with the original.

    It paints what stylize --paint-at full --faces 0 --backend torch paints, to
    a level of 255, but for a picture of next to one colour, with a deviation
    below 3 levels: stylize gives it moments of ordinary photographs, without
    which it is 15 to 110 levels off.
    """
    if output.suffix.lower() != ENDING[format]:
        raise StylenormError(f"{output} should end in {ENDING[format]}, as {format} files do; give such a name with -o")
    if not output.absolute().parent.is_dir():
        raise StylenormError(f"there is no folder {output.parent}; make it first")
    network_file(weights)
    if format == "onnx" and not (find_spec("onnx") and find_spec("onnxscript")):
        raise StylenormError(f"writing ONNX takes the packages onnx and onnxscript: {how_to_install('export')}")
    with redirect_stdout(sys.stderr):
        import_torch()
        from stylenorm.export import export_files

        report = export_files(format, output, weights, {"stylenorm": __version__}, grain)
    if as_json:
        return print(json.dumps(report))
    print(f"wrote {report['file']} ({report['bytes'] / 1e6:.1f} MB) and {report['styles']} ({counted(report['count'], 'style')})")
    difference = report["difference"]
    if difference is None:
        print(f"{output.name} was not compared with the original; install onnxruntime to have that done")
    else:
        print(f"{output.name} differs from the original by {difference:.1e} at most")
