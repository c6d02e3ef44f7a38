"""`catchment registry push` and `pull`: models between folders and registries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from catchment.cli.output import print_json
from catchment.cli.registry_access import NAMES, access_options, open_access
from catchment.cli.transferring import shown_transfer
from catchment.errors import Refused

if TYPE_CHECKING:
    from catchment.registry.opening import Location
    from catchment.registry.pushing import Form
    from catchment.registry.references import Reference


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="FOLDER")
@click.argument("ref", metavar="REF")
@click.option(
    "--form",
    type=click.Choice(("ormb", "modelpack")),
    default="ormb",
    show_default=True,
    help="ormb: config and one layer, as the original client; modelpack: CNCF's, a layer for each file.",
)
@click.option(
    "--deflate", is_flag=True, help="Make ORMB's layer smaller; trained weights shrink by less than a tenth."
)
@access_options
def push(folder: Path, ref: str, form: Form, deflate: bool, as_json: bool) -> None:
    """Push a model: FOLDER with model/, and ormbfile.yaml where there is one.

    REF is HOST/project/name[:tag] or oci:FOLDER:project/name[:tag]. Its tag is moved where it is there.
    """
    from catchment.registry.copying import Place
    from catchment.registry.pushing import check_pushable, push_folder
    from catchment.registry.references import DEFAULT_TAG

    location, named = _named(ref)
    if named.digest:
        raise Refused(f"{ref}: what is pushed gets its own digest; give a tag instead")
    tag = named.tag or DEFAULT_TAG
    check_pushable(folder, form, deflate=deflate)
    opened = location.open(open_access(), new=True)
    try:
        with shown_transfer(f"pushing {named}", quiet=as_json) as progress:
            target = Place(opened, named.repository)
            made = push_folder(folder, target, tag, form=form, deflate=deflate, progress=progress)
    finally:
        opened.close()
    if as_json:
        print_json({"repository": named.repository, "tag": tag, "digest": made.digest, "form": form})
    else:
        click.echo(f"{opened.name} {named.repository}:{tag} {made.digest}")


@click.command()
@click.argument("ref", metavar="REF")
@click.argument("folder", type=click.Path(path_type=Path), metavar="[FOLDER]", required=False)
@access_options
def pull(ref: str, folder: Path | None, as_json: bool) -> None:
    """Pull a model, ORMB or ModelPack, into a new FOLDER with ormbfile.yaml and model/.

    REF is HOST/project/name[:tag][@digest] or oci:FOLDER:project/name[:tag][@digest]; without a FOLDER, one
    of the model's name is made here. A pull that broke off goes on where it was.
    """
    from catchment.registry.copying import Place
    from catchment.registry.pulling import pull_folder

    location, named = _named(ref)
    opened = location.open(open_access())
    try:
        with shown_transfer(f"pulling {named}", quiet=as_json) as progress:
            source = Place(opened, named.repository)
            pulled = pull_folder(source, named.target, folder or Path(named.name), progress=progress)
    finally:
        opened.close()
    if as_json:
        print_json({"folder": str(pulled.folder), "digest": pulled.digest, "form": pulled.form})
    else:
        click.echo(f"{pulled.folder} {pulled.digest}")


def _named(ref: str) -> tuple[Location, Reference]:
    from catchment.registry.opening import parse_location

    location = parse_location(ref, field="REF")
    if location.reference is None:
        raise Refused(f"{ref} names a layout, no artifact: {NAMES}")
    return location, location.reference
