"""The folders and tokens of the sites that `catchment up` starts on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from catchment.errors import SetupError, Unauthorized
from catchment.stack.digits import DATASET, digits_available, ensure_digits
from catchment.stack.options import StackOptions, site_name
from catchment.stack.service import Say

if TYPE_CHECKING:
    from catchment.store import Store


def prepare_sites(options: StackOptions, say: Say) -> None:
    """Make each site's home, entries folder and data set; a `datasets.json` that is there is kept."""
    homes = [options.home / "sites" / site_name(index) for index in range(1, options.sites + 1)]
    for home in homes:
        (home / "entries").mkdir(parents=True, exist_ok=True)
    folders = [home / "datasets" / DATASET for home in homes]
    if homes and digits_available():
        ensure_digits(folders)
    elif homes:
        say("scikit-learn is not installed (extra 'demo'): the sites start without the data set 'digits'")
    for home, folder in zip(homes, folders, strict=True):
        _write_datasets(home / "datasets.json", folder)


def _write_datasets(file: Path, folder: Path) -> None:
    """Name the data set; what a person wrote into the file stays, an empty one is ours."""
    if file.exists() and file.read_text().strip() != "{}":
        return
    content = {DATASET: str(folder)} if folder.exists() else {}
    file.write_text(json.dumps(content, indent=2) + "\n")


def require_admin(store: Store, options: StackOptions) -> None:
    """A server that others can reach needs somebody who may administer it.

    Raises:
        SetupError: there is no admin token.
    """
    from catchment.access import has_admin

    if not has_admin(store):
        raise SetupError(
            f"--host {options.host} can be reached from other machines, so the API asks for tokens, and "
            f"there is none yet; make one with: catchment token create --role admin --home {options.home}"
        )


def site_tokens(store: Store, options: StackOptions) -> dict[str, Path]:
    """The file with each local site's token, by site; a token that is still good is kept."""
    folder = options.home / "tokens"
    folder.mkdir(exist_ok=True, mode=0o700)
    tokens = {}
    for index in range(1, options.sites + 1):
        name = site_name(index)
        tokens[name] = folder / name
        _ensure_token(store, tokens[name], role="site", site=name)
    return tokens


def own_token(store: Store, options: StackOptions) -> str:
    """Our own token, to look which sites are online."""
    folder = options.home / "tokens"
    folder.mkdir(exist_ok=True, mode=0o700)
    return _ensure_token(store, folder / "up", role="user", site=None)


def _ensure_token(store: Store, file: Path, *, role: str, site: str | None) -> str:
    from catchment.access import create_token, identify

    try:
        token = file.read_text().strip()
        if identify(store, token).role == role:
            return token
    except (FileNotFoundError, Unauthorized):
        pass  # never made, or revoked meanwhile: a new one is what is wanted
    token = create_token(store, role, site=site, description="made by catchment up")
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(token + "\n")
    return token
