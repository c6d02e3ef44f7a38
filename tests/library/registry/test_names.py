"""References, and manifests to the byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catchment.errors import InvalidField
from catchment.models import go_json
from catchment.registry.artifacts import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    digest_of,
    read_manifest,
)
from catchment.registry.references import Reference, parse_reference

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("project/name", Reference("", "project/name")),
        ("project/name:v1", Reference("", "project/name", "v1")),
        (f"project/name@{DIGEST}", Reference("", "project/name", "", DIGEST)),
        (f"project/name:v1@{DIGEST}", Reference("", "project/name", "v1", DIGEST)),
        (
            "registry.example.org/project/name:V_1.0-x",
            Reference("registry.example.org", "project/name", "V_1.0-x"),
        ),
        ("Registry:5000/project/name", Reference("registry:5000", "project/name")),
        ("registry/project/name", Reference("registry", "project/name")),
        ("[::1]:5000/project/name:v1", Reference("[::1]:5000", "project/name", "v1")),
        ("localhost/x:v1", Reference("localhost", "x/x", "v1")),
        ("harbor.example.org/x:v1", Reference("harbor.example.org", "x/x", "v1")),
        ("127.0.0.1:5000/x", Reference("127.0.0.1:5000", "x/x")),
    ],
)
def test_references_are_taken_apart(text: str, found: Reference) -> None:
    assert parse_reference(text) == found


@pytest.mark.parametrize(
    "text",
    [
        *("", "name", "a/b/c/d", "a/B", "a/-b", "a/b:", "a/b:-v", "a/b@sha256:12", "a/b@md5:x", "a/b@"),
        *("/b", "a/", "a//b", "../b", "a/..", "a.b/../c", "a/b\n", "a/b:v1\n", "a/" + "b" * 300),
        *("ho st/a/b", "host:0/a/b", "host:99999/a/b", "host:x/a/b", "-h.x/a/b", "http://host/a/b"),
        *("user@host/a/b", "a/b:" + "x" * 129),
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(InvalidField, match=r"^source: "):
        parse_reference(text, field="source")


@given(
    st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,20}\Z"),
    st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,20}\Z"),
    st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,20}\Z"),
    st.sampled_from(["", "registry.example.org:5000", "localhost"]),
    st.sampled_from(["", DIGEST]),
)
def test_a_reference_reads_what_it_writes(project: str, name: str, tag: str, host: str, digest: str) -> None:
    if not host and project == "localhost":
        return
    made = Reference(host, f"{project}/{name}", tag, digest)
    assert parse_reference(str(made)) == made
    assert made.target == (digest or tag)
    assert (made.project, made.name) == (project, name)


def test_a_reference_without_a_tag_means_latest() -> None:
    assert parse_reference("a/b").target == "latest"


def test_a_manifest_is_written_as_the_original_client_does() -> None:
    config = Descriptor("application/vnd.caicloud.model.config.v1alpha1+json", digest_of(b"{}"), 2)
    layer = Descriptor("application/tar+gzip", digest_of(b"layer"), 5)
    assert Manifest(config, (layer,)).to_bytes() == (
        b'{"schemaVersion":2,"config":{"mediaType":"application/vnd.caicloud.model.config.v1alpha1+json",'
        b'"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},'
        b'"layers":[{"mediaType":"application/tar+gzip",'
        b'"digest":"sha256:dac1d7cfa95021764849fd102524e141488c5e3a90f861dbb5a12d9ac8584f85","size":5}]}'
    )


def test_further_fields_have_the_order_of_the_specification() -> None:
    config = Descriptor("c", digest_of(b"c"), 1)
    made = Manifest(
        config,
        (),
        media_type=OCI_MANIFEST,
        artifact_type="a",
        subject=config,
        annotations={"z": "<&>", "a": "ü"},
    )
    assert [*json.loads(made.to_bytes())] == [
        "schemaVersion",
        "mediaType",
        "artifactType",
        "config",
        "layers",
        "subject",
        "annotations",
    ]
    assert made.to_bytes().endswith('"annotations":{"a":"ü","z":"\\u003c\\u0026\\u003e"}}'.encode())
    assert read_manifest(made.to_bytes()) == made


@given(st.text())
def test_json_is_what_it_was_made_from(text: str) -> None:
    try:
        data = go_json.encode({text: text})
    except UnicodeEncodeError:
        return  # lone surrogates are no text
    assert json.loads(data) == {text: text}
    assert not {b"<", b">", b"&"} & {bytes([byte]) for byte in data}


def test_an_index_is_read_by_its_type_or_its_shape() -> None:
    made = Index((Descriptor(OCI_MANIFEST, digest_of(b"m"), 1, artifact_type="x"),))
    assert read_manifest(made.to_bytes()) == made
    assert read_manifest(b'{"schemaVersion":2,"manifests":[]}') == Index(())
    assert read_manifest(b'{"schemaVersion":2,"manifests":[]}', OCI_INDEX) == Index(())
    with pytest.raises(InvalidField, match="mediaType"):
        read_manifest(b'{"mediaType":"application/vnd.docker.distribution.manifest.v1+json"}')
