"""Anybody's network: a torch module becomes a model that every other command takes."""

from math import prod
from pathlib import Path
from typing import Annotated, Any

import typer

from explorer.cli.shared import AsJson, app, out_option, print_rows
from explorer.errors import SpecError, check_whole
from explorer.network import ONNX, check_network_path
from explorer.own_code import running
from explorer.paths import check_writable

LARGEST_SAMPLE = 10**8  # numbers: images of 5,000 x 5,000 and more
LARGEST_TOKENS = 2**31


@app.command()
def trace(
    module: Annotated[
        str,
        typer.Argument(help="what makes it: package.module:name, file.py:name, or an .onnx file"),
    ],
    out: Annotated[Path, out_option("write the network JSON here, weights beside it")],
    example: Annotated[
        str, typer.Option(help="sizes of one sample, such as 3,224,224; an .onnx file may say them")
    ] = "",
    tokens: Annotated[
        int | None, typer.Option(help="samples are token indices below this number")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Trace a torch module with torch.export into a model that every command takes by its path.

    Runs the code that MODULE names; an ONNX file is only read.
    """
    import torch

    from explorer.accuracy.tracing import trace as traced_of

    check_network_path(out)
    check_writable(out.with_suffix(".safetensors"))
    is_file = module.endswith(ONNX)
    sizes = _sizes(example) if example or not is_file else ()
    if tokens is not None:
        check_whole("tokens", tokens, 1, LARGEST_TOKENS)
    batch = None
    if sizes:
        if prod(sizes) > LARGEST_SAMPLE:
            raise SpecError.of("example", example, f"at most {LARGEST_SAMPLE} numbers in all")
        batch = torch.randint(tokens, (2, *sizes)) if tokens else torch.randn(2, *sizes)
    traced = traced_of(module if is_file else _made(module), batch, out.stem)
    traced.save(out)
    row = {
        "model": str(out),
        "digest": traced.graph.digest,
        "operators": len(traced.graph.layers),
        "layers": len(traced.graph.weighted),
        "parameters": traced.graph.parameter_count,
        "unused_parameters": list(traced.unused),
    }
    if as_json:
        import json

        print(json.dumps(row, indent=2))
    else:
        row["unused_parameters"] = ", ".join(traced.unused)
        print_rows([{"": name.replace("_", " "), "value": value} for name, value in row.items()])


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise SpecError.of("example", text, "sizes of one sample, such as 3,224,224")
    return tuple(int(part) for part in parts)


def _made(where: str) -> Any:
    """The module that a spelling names; a function is called without argument.

    Whatever the named code raises is its own and passes.
    """
    import torch

    with running("module", where) as made:
        if callable(made) and not isinstance(made, torch.nn.Module):
            made = made()
    if not isinstance(made, torch.nn.Module):
        raise SpecError.of(f"module {where}", made, "a torch module, or what returns one")
    return made
