"""A SavedModel's file as data, without TensorFlow: those fields of its format that ``kerasall.serving.graph`` looks at.

TensorFlow's own classes for them come with the whole of it, which takes seconds. ``tests/serving/test_graph.py`` holds
names, numbers and kinds to theirs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "kerasall.graph"
_MESSAGES = """
    SavedModel: meta_graphs 2 * MetaGraphDef
    MetaGraphDef: graph_def 2 1 GraphDef, saver_def 3 1 SaverDef, signature_def 5 > SignatureDef
    MetaGraphDef: asset_file_def 6 * AssetFileDef, object_graph_def 7 1 SavedObjectGraph
    GraphDef: node 1 * NodeDef, library 2 1 FunctionDefLibrary
    FunctionDefLibrary: function 1 * FunctionDef
    FunctionDef: signature 1 1 OpDef, node_def 3 * NodeDef
    OpDef: name 1 1 string
    NodeDef: name 1 1 string, op 2 1 string, input 3 * string, attr 5 > AttrValue
    AttrValue: list 1 | ListValue, func 10 | NameAttrList
    ListValue: func 9 * NameAttrList
    NameAttrList: name 1 1 string
    SaverDef: save_tensor_name 2 1 string, restore_op_name 3 1 string
    SignatureDef: outputs 2 > TensorInfo
    TensorInfo: name 1 1 string
    AssetFileDef: filename 2 1 string
    SavedObjectGraph: nodes 1 * SavedObject, concrete_functions 2 > Any
    SavedObject: user_object 4 | SavedUserObject, asset 5 | Any, function 6 | Any, variable 7 | Any
    SavedObject: bare_concrete_function 8 | Any, constant 9 | Any, resource 10 | Any, captured_tensor 12 | Any
    SavedObject: registered_name 13 1 string, registered_saver 16 1 string
    SavedUserObject: identifier 1 1 string
    Any:
"""
"""Name, number, how often (1; * many; > many by name; | one of those marked so) and kind of every field."""


@cache
def saved_model_class() -> Any:
    """The class whose ``ParseFromString`` reads ``saved_model.pb``."""
    file = FileDescriptorProto(name="kerasall/graph.proto", package=_PACKAGE, syntax="proto3")
    messages: dict[str, DescriptorProto] = {}
    for line in _MESSAGES.strip().splitlines():
        name, _, fields = line.strip().partition(":")
        if name not in messages:
            messages[name] = file.message_type.add(name=name)
        for field in filter(None, fields.strip().split(", ")):
            _add(messages[name], field)
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.SavedModel"))


def _add(message: DescriptorProto, field: str) -> None:
    name, number, often, kind = field.split()
    if often == ">":
        entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        _add(entry, "key 1 1 string")
        _add(entry, f"value 2 1 {kind}")
        kind = f"{message.name}.{entry.name}"
    added = message.field.add(name=name, number=int(number))
    added.label = (
        FieldDescriptorProto.LABEL_REPEATED if often in "*>" else FieldDescriptorProto.LABEL_OPTIONAL
    )
    if kind == "string":
        added.type = FieldDescriptorProto.TYPE_STRING
    else:
        added.type, added.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    if often == "|":
        if not message.oneof_decl:
            message.oneof_decl.add(name={"AttrValue": "value", "SavedObject": "kind"}[message.name])
        added.oneof_index = 0
