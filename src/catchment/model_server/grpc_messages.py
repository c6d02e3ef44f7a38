"""The messages of the protocol's gRPC service, made from a table of their fields.

They live in a descriptor pool of their own, so that a process may hold a client's generated copy of the same
package too, and no generated code binds this one to a version of protobuf.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = "inference.GRPCInferenceService"
_SCALARS = {"bool": 8, "int32": 5, "int64": 3, "uint32": 13, "uint64": 4, "float": 2, "double": 1} | {
    "string": 9,
    "bytes": 12,
}
_MAP = "map"
"""`map<string, InferParameter>`; every map of the protocol is one."""

_TENSOR = "name=1 string, datatype=2 string, shape=3 *int64, parameters=4 map, contents=5 InferTensorContents"
MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live=1 bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready=1 bool",
    "ModelReadyRequest": "name=1 string, version=2 string",
    "ModelReadyResponse": "ready=1 bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name=1 string, version=2 string, extensions=3 *string",
    "ModelMetadataRequest": "name=1 string, version=2 string",
    "ModelMetadataResponse.TensorMetadata": "name=1 string, datatype=2 string, shape=3 *int64",
    "ModelMetadataResponse": "name=1 string, versions=2 *string, platform=3 string, "
    "inputs=4 *ModelMetadataResponse.TensorMetadata, outputs=5 *ModelMetadataResponse.TensorMetadata",
    "InferParameter": "bool_param=1 ?bool, int64_param=2 ?int64, string_param=3 ?string, "
    "double_param=4 ?double, uint64_param=5 ?uint64",
    "InferTensorContents": "bool_contents=1 *bool, int_contents=2 *int32, int64_contents=3 *int64, "
    "uint_contents=4 *uint32, uint64_contents=5 *uint64, fp32_contents=6 *float, fp64_contents=7 *double, "
    "bytes_contents=8 *bytes",
    "ModelInferRequest.InferInputTensor": _TENSOR,
    "ModelInferRequest.InferRequestedOutputTensor": "name=1 string, parameters=2 map",
    "ModelInferRequest": "model_name=1 string, model_version=2 string, id=3 string, parameters=4 map, "
    "inputs=5 *ModelInferRequest.InferInputTensor, "
    "outputs=6 *ModelInferRequest.InferRequestedOutputTensor, raw_input_contents=7 *bytes",
    "ModelInferResponse.InferOutputTensor": _TENSOR,
    "ModelInferResponse": "model_name=1 string, model_version=2 string, id=3 string, parameters=4 map, "
    "outputs=5 *ModelInferResponse.InferOutputTensor, raw_output_contents=6 *bytes",
}
"""Fields of each message: `name=number type`; `*` before the type for a list, `?` for one of a choice."""


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="open_inference_grpc.proto", package=PACKAGE, syntax="proto3"
    )
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    # Outer messages first, so that the inner ones find them.
    for path in sorted(MESSAGES, key=lambda each: each.count(".")):
        outer, _, inner = path.rpartition(".")
        message = made[outer].nested_type.add(name=inner) if outer else file.message_type.add(name=path)
        made[path] = message
        for described in filter(None, MESSAGES[path].split(", ")):
            _add_field(message, path, described)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        path: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{path}"))
        for path in MESSAGES
    }


def _add_field(message: descriptor_pb2.DescriptorProto, path: str, described: str) -> None:
    assigned, kind = described.split()
    name, number = assigned.split("=")
    field = message.field.add(name=name, number=int(number), json_name=name)
    many = kind.startswith("*") or kind == _MAP
    field.label = field.LABEL_REPEATED if many else field.LABEL_OPTIONAL
    if kind.startswith("?"):
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    kind = kind.lstrip("*?")
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
        return
    field.type = field.TYPE_MESSAGE
    field.type_name = f".{PACKAGE}.{kind}"
    if kind == _MAP:
        field.type_name = f".{PACKAGE}.{path}.ParametersEntry"
        _add_entry(message)


def _add_entry(message: descriptor_pb2.DescriptorProto) -> None:
    entry = message.nested_type.add(name="ParametersEntry")
    entry.options.map_entry = True
    key = entry.field.add(name="key", number=1, json_name="key")
    value = entry.field.add(name="value", number=2, json_name="value")
    key.label = value.label = key.LABEL_OPTIONAL
    key.type = key.TYPE_STRING
    value.type, value.type_name = value.TYPE_MESSAGE, f".{PACKAGE}.InferParameter"


CLASSES = _build()
"""The class of each message, by its path within the package."""
