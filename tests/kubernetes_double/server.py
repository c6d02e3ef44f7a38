"""The API server: HTTP requests to objects, with subresources, watches, logs and faults."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from tests.kubernetes_double import deleting, merging, scaling, selectors
from tests.kubernetes_double.faults import Faults
from tests.kubernetes_double.logs import Logs
from tests.kubernetes_double.objects import Object, Objects
from tests.kubernetes_double.problems import Problem, note_error
from tests.kubernetes_double.resources import Resource

APPLY = ("application/apply-patch+yaml", "application/apply-patch+cbor")
UNKNOWN = "the body of the request was in an unknown format - accepted media types include:"
PATCHES: dict[str, Callable[[Any, Any], Any]] = {
    "application/merge-patch+json": merging.merge,
    "application/strategic-merge-patch+json": merging.strategic,
    "application/json-patch+json": merging.json_patch,
}


@dataclass(frozen=True)
class Target:
    """What a path names."""

    resource: Resource
    namespace: str
    name: str
    subresource: str


@dataclass(frozen=True)
class Asked:
    """One request, for tests that look at what was asked."""

    verb: str
    resource: str
    namespace: str
    name: str
    query: dict[str, str]
    body: Any = None


class Absent(Exception):
    """No such place: what nobody has registered is no Status, but a page."""


class Server(ThreadingHTTPServer):
    """Sockets on loopback, one thread a connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self, objects: Objects, logs: Logs, faults: Faults, token: str, broken: list[BaseException]
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.broken = broken
        self.objects, self.logs, self.faults, self.token = objects, logs, faults, token
        self.asked: list[Asked] = []
        self.over = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; what else ends a handler is one of the double's."""
        note_error(self.broken)


class Handler(BaseHTTPRequestHandler):
    """Requests of one connection."""

    protocol_version = "HTTP/1.1"
    server: Server
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def _serve(self) -> None:
        address = urlsplit(self.path)
        self.query = dict(parse_qsl(address.query, keep_blank_values=True))
        length = int(self.headers.get("Content-Length") or 0)
        data = self.rfile.read(length)
        try:
            self._routed(unquote(address.path), data)
        except Absent:
            self._send(404, "text/plain; charset=utf-8", b"404 page not found\n")
        except Problem as problem:
            self._answer(problem.code, problem.status())
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - as the base class calls them

    def _routed(self, path: str, data: bytes) -> None:
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            raise Problem(401, "Unauthorized")
        if path in ("/healthz", "/readyz", "/livez"):
            return self._answer_text("ok")
        if path == "/version":
            return self._answer(200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0-double"})
        if found := self._discovery(path):
            return self._answer(200, found)
        target = self._target(path)
        body = _parsed(data, self.headers.get("Content-Type", ""))
        verb = self._verb(target)
        name = target.resource.plural + (f"/{target.subresource}" if target.subresource else "")
        self.server.asked.append(Asked(verb, name, target.namespace, target.name, self.query, body))
        self._faulty(verb, name, target, body)
        return None

    def _faulty(self, verb: str, name: str, target: Target, body: Any) -> None:
        fault = self.server.faults.take(verb, name)
        if fault is None:
            return self._do(verb, target, body)
        if fault.act == "answer":
            more = {"retryAfterSeconds": fault.retry_after_s} if fault.retry_after_s is not None else {}
            raise Problem(fault.code, fault.message, **more)
        if fault.act == "slow":
            deadline = time.monotonic() + fault.seconds
            with self.server.objects.changed:
                while not self.server.over and (left_s := deadline - time.monotonic()) > 0:
                    if fault not in self.server.faults.waiting:
                        break
                    self.server.objects.changed.wait(left_s)
            return self._do(verb, target, body)
        if fault.after:
            self.muted = True
            self._do(verb, target, body)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        return None

    muted = False

    def _verb(self, target: Target) -> str:
        if self.command == "GET":
            watching = self.query.get("watch", "").lower() in ("true", "1")
            return "watch" if watching else "get" if target.name else "list"
        if self.command == "DELETE" and not target.name:
            return "deletecollection"
        return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[self.command]

    def _do(self, verb: str, target: Target, body: Any) -> None:  # noqa: PLR0911 - one line a verb
        objects, resource = self.server.objects, target.resource
        if target.subresource == "log":
            return self._log(target)
        if target.subresource == "scale":
            return self._answer(
                200,
                scaling.scale(objects, resource, target.namespace, target.name, verb, body, self._patched),
            )
        strict = self.query.get("fieldValidation") == "Strict"
        where = (resource, target.namespace, target.name)
        if verb == "watch":
            return self._watch(target)
        if verb == "list":
            return self._answer(200, self._listed(target))
        if verb == "get":
            return self._answer(200, objects.get(*where))
        if verb == "create":
            manager = self.query.get("fieldManager", "")
            return self._answer(201, objects.create(resource, target.namespace, body, manager, strict=strict))
        if verb == "update":
            if resource.custom and not body.get("metadata", {}).get("resourceVersion"):
                told = "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
                raise Problem(422, f'{resource.qualified} "{target.name}" is invalid: {told}')
            return self._answer(200, self._edit(target, lambda _: body, strict))
        if verb == "patch":
            return self._patch(target, body, strict)
        if verb == "delete":
            gone = deleting.delete(objects, *where, {**(body or {}), **self._delete_query()})
            return self._answer(200, gone)
        for each in self._listed(target)["items"]:
            deleting.delete(
                objects, resource, each["metadata"].get("namespace", ""), each["metadata"]["name"], body or {}
            )
        return self._answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _delete_query(self) -> dict[str, Any]:
        known = {key: self.query[key] for key in ("propagationPolicy",) if key in self.query}
        if "gracePeriodSeconds" in self.query:
            known["gracePeriodSeconds"] = int(self.query["gracePeriodSeconds"])  # type: ignore[assignment]
        return known

    def _edit(self, target: Target, edit: Callable[[Object], Object], strict: bool) -> Object:
        status = target.subresource == "status"
        manager = self.query.get("fieldManager", "")
        where = (target.resource, target.namespace, target.name)
        return self.server.objects.change(*where, edit, manager=manager, status=status, strict=strict)

    def _patched(self, live: Object, body: Any) -> Object:
        kind = self.headers.get("Content-Type", "").partition(";")[0]
        if kind not in PATCHES:
            raise Problem(415, f"{UNKNOWN} {[*PATCHES, *APPLY]}")
        return PATCHES[kind](live, body)

    def _patch(self, target: Target, body: Any, strict: bool) -> None:
        kind = self.headers.get("Content-Type", "").partition(";")[0]
        if kind in APPLY:
            force = self.query.get("force", "").lower() in ("true", "1")
            found, new = self.server.objects.apply(
                target.resource,
                target.namespace,
                target.name,
                body,
                self.query.get("fieldManager", ""),
                force=force,
                strict=strict,
            )
            return self._answer(201 if new else 200, found)
        if kind == "application/strategic-merge-patch+json" and target.resource.custom:
            raise Problem(415, f"{UNKNOWN} {[kind for kind in PATCHES if 'strategic' not in kind]}")
        return self._answer(200, self._edit(target, lambda live: self._patched(live, body), strict))

    def _listed(self, target: Target) -> dict[str, Any]:
        objects, resource = self.server.objects, target.resource
        wanted = selectors.matcher(self.query.get("labelSelector", ""), self.query.get("fieldSelector", ""))
        with objects.changed:
            items, version = (
                [each for each in objects.list(resource, target.namespace) if wanted(each)],
                objects.version,
            )
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        start, limit = int(self.query.get("continue") or 0), int(self.query.get("limit") or 0)
        if limit and len(items) > start + limit:
            metadata |= {"continue": str(start + limit), "remainingItemCount": len(items) - start - limit}
        items = items[start : start + limit] if limit else items[start:]
        return {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.api_version,
            "metadata": metadata,
            "items": items,
        }

    def _watch(self, target: Target) -> None:
        objects, resource = self.server.objects, target.resource
        selected = selectors.matcher(self.query.get("labelSelector", ""), self.query.get("fieldSelector", ""))

        def wanted(found: Object) -> bool:
            place = target.namespace in ("", found["metadata"].get("namespace", ""))
            return place and target.name in ("", found["metadata"]["name"]) and selected(found)

        deadline = time.monotonic() + float(self.query.get("timeoutSeconds") or 1800)
        since = int(self.query.get("resourceVersion") or 0)
        self._begin("application/json")
        if not since:
            with objects.changed:
                first, since = objects.list(resource, target.namespace), objects.version
            for found in filter(wanted, first):
                self._piece({"type": "ADDED", "object": found})
        while not self.server.over and (left_s := deadline - time.monotonic()) > 0:
            try:
                changes = objects.since(since, min(left_s, 1.0))
            except Problem as problem:
                self._piece({"type": "ERROR", "object": problem.status()})
                break
            for change in changes:
                since = change.version
                if change.resource == resource:
                    before, after = bool(change.before) and wanted(change.before), wanted(change.after)
                    kind = (
                        change.kind if before and after else "ADDED" if after else "DELETED" if before else ""
                    )
                    if kind:
                        self._piece({"type": kind, "object": change.after})
        self.wfile.write(b"0\r\n\r\n")

    def _log(self, target: Target) -> None:
        pod = self.server.objects.get(target.resource, target.namespace, target.name)
        follow = self.query.get("follow", "").lower() in ("true", "1")
        if not follow:
            text = self.server.logs.read(pod, self.query)
            # Without a node there is nobody to ask, and no content.
            return (
                self._answer_text(text) if pod["spec"].get("nodeName") else self._send(204, "text/plain", b"")
            )
        self._begin("text/plain")
        sent, over = 0, False
        while not (over or self.server.over):
            over = self.server.logs.wait(pod, self.query, sent, 1.0)
            text = self.server.logs.read(pod, self.query)[sent:]
            if text:
                self._chunk(text.encode())
            sent += len(text)
        self.wfile.write(b"0\r\n\r\n")
        return None

    def _target(self, path: str) -> Target:
        parts = [part for part in path.split("/") if part]
        try:
            group, version, rest = (
                ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
            )
            namespace = ""
            if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
                namespace, rest = rest[1], rest[2:]
            plural, name, subresource = (*rest, "", "")[:3]
        except IndexError:
            raise Problem(404, "404 page not found", "NotFound") from None
        for resource in self.server.objects.resources:
            if (resource.group, resource.version, resource.plural) == (group, version, plural):
                self._subresource(resource, subresource)
                return Target(resource, namespace, name, subresource)
        built_in = [(each.group, each.version) for each in self.server.objects.resources if not each.custom]
        if (group, version) not in built_in:
            raise Absent
        raise Problem(404, "the server could not find the requested resource")

    def _subresource(self, resource: Resource, name: str) -> None:
        known = {"": True, "status": resource.status, "scale": resource.scale, "log": resource.kind == "Pod"}
        if not known.get(name):
            raise Problem(404, "the server could not find the requested resource")

    def _discovery(self, path: str) -> dict[str, Any] | None:
        parts = [part for part in path.split("/") if part]
        groups = sorted({(each.group, each.version) for each in self.server.objects.resources})
        if parts == ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"]}
        if parts == ["apis"]:
            named = sorted({group for group, _ in groups if group})
            return {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [_group(name, groups) for name in named],
            }
        pair = ("", parts[1]) if parts[:1] == ["api"] and len(parts) == 2 else tuple(parts[1:])
        if parts[:1] not in (["api"], ["apis"]) or pair not in groups:
            return None
        here = [each for each in self.server.objects.resources if (each.group, each.version) == pair]
        named = [
            {"name": each.plural, "kind": each.kind, "namespaced": each.namespaced, "verbs": []}
            for each in here
        ]
        return {"kind": "APIResourceList", "groupVersion": "/".join(filter(None, pair)), "resources": named}

    def _answer(self, code: int, body: Any) -> None:
        self._send(code, "application/json", json.dumps(body).encode())

    def _answer_text(self, text: str) -> None:
        self._send(200, "text/plain", text.encode())

    def _send(self, code: int, kind: str, data: bytes) -> None:
        if self.muted:
            return
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        retry = json.loads(data).get("details", {}).get("retryAfterSeconds") if code >= 429 else None
        if retry is not None:
            self.send_header("Retry-After", str(retry))
        self.end_headers()
        self.wfile.write(data)

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _piece(self, event: Any) -> None:
        self._chunk(json.dumps(event).encode() + b"\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def _group(name: str, groups: list[tuple[str, str]]) -> dict[str, Any]:
    versions = [
        {"groupVersion": f"{group}/{version}", "version": version}
        for group, version in groups
        if group == name
    ]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _parsed(data: bytes, kind: str) -> Any:
    if not data:
        return None
    try:
        return yaml.safe_load(data) if "yaml" in kind else json.loads(data)
    except (ValueError, yaml.YAMLError) as error:
        raise Problem(400, f"the body cannot be read: {error}") from error
