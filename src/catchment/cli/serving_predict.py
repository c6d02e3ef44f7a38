"""`catchment serving predict`: one inference over the Open Inference Protocol, from a file."""

from __future__ import annotations

from pathlib import Path

import click

from catchment.cli.documents import read_object
from catchment.cli.options import Remote, namespace_option, server_options
from catchment.cli.output import print_json
from catchment.errors import Refused


@click.command()
@click.argument("name", metavar="NAME")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--input", "input_name", help="The input that numbers are for, where the model has several.")
@namespace_option
@server_options
def predict(name: str, source: Path, input_name: str | None, namespace: str, remote: Remote) -> None:
    """Ask a serving: FILE is a request (.json), an array (.npy) or rows of numbers (.csv)."""
    import numpy as np

    from catchment.client import inference

    with remote.connect() as client:
        servings = client.servings
        if source.suffix.lower() == ".json":
            if input_name:
                raise Refused("--input is for .npy and .csv; a request in JSON names its inputs itself")
            with source.open(encoding="utf-8") as file:
                read_object(file, "the request")
            answer = servings.infer(name, source.read_bytes(), namespace=namespace)
        else:
            values = inference.read_numbers(source)
            metadata = servings.metadata(name, namespace=namespace)
            body, head = inference.request_of(values, metadata, input_name)
            answer = servings.infer(name, body, json_bytes=head, namespace=namespace)
    if remote.as_json:
        print_json(answer)
        return
    for output, values in inference.arrays_of(answer).items():
        click.echo(f"{output} {list(values.shape)}")
        click.echo(np.array2string(values, threshold=200, precision=6, suppress_small=True))
