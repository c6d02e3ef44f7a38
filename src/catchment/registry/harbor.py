"""Harbor: a registry with projects, which lists what it holds by an API of its own (`/api/v2.0`)."""

from __future__ import annotations

import datetime
from typing import Any
from urllib.parse import quote

from catchment.errors import CatchmentError, NotFound, Unreachable
from catchment.registry.artifacts import OCI_MANIFEST
from catchment.registry.backend import ArtifactEntry
from catchment.registry.distribution import DistributionRegistry
from catchment.registry.listing import grouped
from catchment.registry.paging import pages
from catchment.registry.references import check_digest, check_repository
from catchment.registry.session import Session

_API = "/api/v2.0"
_PAGE = 100


def recognise(registry: DistributionRegistry) -> DistributionRegistry:
    """The registry, as one of Harbor's when it answers as Harbor does.

    Raises:
        Unreachable: it does not answer.
    """
    return HarborRegistry(registry.session) if _is_harbor(registry.session) else registry


def _is_harbor(session: Session) -> bool:
    try:
        answer = session.request("GET", f"{_API}/ping", (), "asking for Harbor", headers=_login(session))
    except Unreachable:
        raise
    except CatchmentError:
        return False
    return answer.body.strip().strip(b'"') == b"Pong"


class HarborRegistry(DistributionRegistry):
    """Transfers as with any registry; lists by Harbor's API, since its catalog is for administrators only."""

    def projects(self) -> list[str]:
        """Names of the projects that this user may see, sorted."""
        return sorted(_text(each, "name") for each in self._list("/projects", "the projects"))

    def repositories(self, project: str = "") -> list[str]:
        """Names of repositories, sorted; of one project where it is given.

        Raises:
            NotFound: there is no such project.
        """
        if project:
            check_repository(project)
            path = f"/projects/{project}/repositories"
        else:
            path = "/repositories"
        return sorted(
            _text(each, "name") for each in self._list(path, f"the repositories of {project or 'all'}")
        )

    def artifacts(self, repository: str) -> list[ArtifactEntry]:
        """What a repository holds, by digest, with or without tags. Raises NotFound for an unknown one."""
        project, _, name = check_repository(repository).partition("/")
        # Slashes within the name are encoded twice: Harbor decodes the path before it looks for slashes.
        encoded = quote(quote(name, safe=""), safe="")
        path = f"/projects/{project}/repositories/{encoded}/artifacts"
        found = self._list(path, f"the artifacts of {repository}", "&with_tag=true")
        return grouped(_entry(repository, each) for each in found)

    def _list(self, path: str, what: str, query: str = "") -> list[dict[str, Any]]:
        address = f"{_API}{path}?page_size={_PAGE}{query}"
        try:
            found = pages(self.session, address, (), what, "", headers=_login(self.session))
        except NotFound:
            raise NotFound(f"{self.name} has nothing to show for {what}") from None
        if not all(isinstance(each, dict) for each in found):
            raise Unreachable(f"{self.name}: {what}: the answer is not as Harbor's")
        return found


def _login(session: Session) -> dict[str, str]:
    """Harbor's own API takes the login itself, where /v2/ takes tokens."""
    return {"Authorization": session.credentials.basic()} if session.credentials else {}


def _entry(repository: str, value: dict[str, Any]) -> ArtifactEntry:
    size = value.get("size")
    tags = [each.get("name") for each in value.get("tags") or [] if isinstance(each, dict)]
    return ArtifactEntry(
        repository,
        check_digest(_text(value, "digest")),
        _text(value, "manifest_media_type") or OCI_MANIFEST,
        _text(value, "artifact_type") or _text(value, "media_type"),
        size if isinstance(size, int) else 0,
        tuple(sorted(tag for tag in tags if isinstance(tag, str))),
        _time(_text(value, "push_time")),
    )


def _text(value: dict[str, Any], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""


def _time(text: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
