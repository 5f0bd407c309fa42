"""What several commands take."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click

from bridge.report import SUFFIXES


class Sizes(click.ParamType):
    """`height=320,640` as `("height", (320, 640))`."""

    name = "sizes"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        axis, _, numbers = value.partition("=")
        if not re.fullmatch(r"[1-9]\d{0,8}(,[1-9]\d{0,8})*", numbers) or not axis:
            self.fail(f"{value!r} is not AXIS=N,N…, such as height=320,640", param, ctx)
        return axis, tuple(map(int, numbers.split(",")))


class Names(click.ParamType):
    """`jax,torch` as `("jax", "torch")`."""

    name = "names"

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        return tuple(value.split(",")) if isinstance(value, str) else value


class SourceType(click.ParamType):
    """A source, which is asked for by what is meant by it."""

    name = "source"

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "Say what the model was made from: --against mymodel.py:make, or --against model.onnx."


file_type = click.Path(dir_okay=False, path_type=Path)
folder_type = click.Path(path_type=Path)
report_option = click.option(
    "--report", type=file_type, metavar="FILE", help=f"Write the report to a file: {', '.join(SUFFIXES)}."
)
inputs_option = click.option(
    "--inputs",
    type=file_type,
    metavar="FILE",
    help="Prove with these inputs: .npz (arrays by name) or .npy.",
)
sizes_option = click.option(
    "--sizes",
    type=Sizes(),
    multiple=True,
    metavar="AXIS=N,N…",
    help="Prove at these sizes; once for each free axis.",
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, help="Of the inputs that are drawn (0)."
)
trust_option = click.option(
    "--trust", is_flag=True, help="Read a .pt2 file even if it could run code; it comes from where you trust."
)
backends_option = click.option(
    "--backends",
    type=Names(),
    default=(),
    metavar="NAME,…",
    help="Compare on these Keras backends too, each in a process of its own: tensorflow,jax,torch.",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
format_option = click.option(
    "--format",
    "form",
    metavar="FORMAT",
    help="Where the ending of the path does not say it: saved_model, onnx, openvino, litert.",
)
precision_option = click.option(
    "--precision", metavar="PRECISION", help="Of the weights: float16 (OpenVINO, LiteRT) or int8 (LiteRT)."
)
calibration_option = click.option(
    "--calibration",
    type=file_type,
    metavar="FILE",
    help="For int8: examples of the inputs, .npz (arrays by name) or .npy, along the first axis.",
)


def pieces_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--stateful` and `--batch-size`."""
    many = click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        metavar="N",
        help="Of how many sequences at once --stateful keeps the state.",
    )
    keeping = click.option(
        "--stateful",
        is_flag=True,
        help="A model that takes pieces of a sequence and goes on from the last one.",
    )
    return keeping(many(command))
