"""Names of artifacts: `[HOST/]project/name[:tag][@sha256:...]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from catchment.errors import InvalidField

DEFAULT_TAG = "latest"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:.]+\])"
    r"(:([0-9]{1,5}))?"
)
_MAX_REPOSITORY = 255


@dataclass(frozen=True)
class Reference:
    """An artifact's name, taken apart.

    Attributes:
        host: registry's host with its port; empty where the reference names none.
        repository: `project/name`.
        tag: empty where the reference names none.
        digest: `sha256:<64 hex digits>`; empty where the reference names none.
    """

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def project(self) -> str:
        """The first part of the repository, a namespace of ours."""
        return self.repository.partition("/")[0]

    @property
    def name(self) -> str:
        """The second part of the repository."""
        return self.repository.partition("/")[2]

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest, which cannot move, else the tag, else `latest`."""
        return self.digest or self.tag or DEFAULT_TAG

    def __str__(self) -> str:
        host = f"{self.host}/" if self.host else ""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{host}{self.repository}{tag}{digest}"


def parse_reference(text: str, *, field: str = "reference") -> Reference:
    """A reference, taken apart.

    The first of three parts is the host. Of two parts, `HOST/x` is `HOST/x/x`, as the original client reads
    it, when the first looks like a host: it has a dot or a colon, or is `localhost`.

    Args:
        text: `[HOST/]project/name[:tag][@sha256:...]`.
        field: what errors call it.

    Raises:
        InvalidField: it is none; the message says which part is wrong.
    """
    path, at, digest = text.partition("@")
    if at:
        check_digest(digest, field=field)
    head, slash, last = path.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon:
        check_tag(tag, field=field)
    parts = [*(head.split("/") if slash else []), last]
    host = ""
    if len(parts) == 3 or (len(parts) == 2 and looks_like_host(parts[0])):
        host = check_host(parts.pop(0), field=field)
    if host and len(parts) == 1:
        parts *= 2
    if len(parts) != 2:
        raise InvalidField(field, f"{text!r} is not of the form [HOST/]project/name[:tag][@sha256:...]")
    return Reference(host, check_repository("/".join(parts), field=field), tag, digest)


def looks_like_host(part: str) -> bool:
    """Whether the first part of a reference is a host rather than a project."""
    return part == "localhost" or "." in part or ":" in part


def check_host(host: str, *, field: str = "host") -> str:
    """The host, with its port where it has one. Raises InvalidField for what is none."""
    found = _HOST.fullmatch(host)
    if not found or not 0 < int(found[6] or 1) < 65536:
        raise InvalidField(field, f"{host!r} is no host of a registry, such as registry.example.org:5000")
    return host.lower()


def check_repository(repository: str, *, field: str = "repository") -> str:
    """The repository itself. Raises InvalidField for names that no registry should see."""
    for part in repository.split("/"):
        if not _NAME.fullmatch(part):
            raise InvalidField(
                field,
                f"{part!r} is no name: lower case letters, digits, '.', '_' and '-' are allowed, "
                "and it begins with a letter or digit",
            )
    if len(repository) > _MAX_REPOSITORY:
        raise InvalidField(field, f"a repository's name has at most {_MAX_REPOSITORY} characters")
    return repository


def check_tag(tag: str, *, field: str = "tag") -> str:
    """The tag itself. Raises InvalidField for what is no tag of the OCI distribution specification."""
    if not _TAG.fullmatch(tag):
        raise InvalidField(
            field,
            f"{tag!r} is no tag: 1 to 128 letters, digits, '.', '_' and '-' are allowed, "
            "and it begins with a letter, a digit or '_'",
        )
    return tag


def check_digest(digest: str, *, field: str = "digest") -> str:
    """The digest itself. Raises InvalidField for what is none."""
    if not _DIGEST.fullmatch(digest):
        raise InvalidField(field, f"{digest!r} is no digest of the form sha256:<64 hex digits>")
    return digest


def is_digest(reference: str) -> bool:
    """Whether a tag or digest is a digest: a tag cannot have a colon."""
    return ":" in reference


def check_target(reference: str) -> str:
    """A tag or digest itself. Raises InvalidField for what is neither."""
    return check_digest(reference) if is_digest(reference) else check_tag(reference)
