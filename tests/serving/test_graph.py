"""A graph that does more than compute is refused before anything of it is loaded; what kerasall exports is not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry

from kerasall.errors import ArtifactError, ModelError
from kerasall.files import write_text
from kerasall.models.backbones import BACKBONES
from kerasall.serving.card import write_manifest
from kerasall.serving.export import _list_functions
from kerasall.serving.graph import OPERATIONS, SAVER, load_saved_model, require_known_graph
from kerasall.serving.graph_fields import saved_model_class
from kerasall.serving.predictor import Predictor


def make_by_hand(folder: Path, act: Callable[[tf.Tensor, Path], Any], **more: Any) -> Path:
    """A SavedModel with labels and manifest whose answer comes with an act beside it."""

    def answer(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        act(image_bytes, folder.parent)
        share = tf.fill([tf.size(image_bytes), 2], 0.5)
        return {"probabilities": share, "label_index": tf.argmax(share, axis=-1)}

    module: Any = tf.Module()
    for name, value in more.items():
        setattr(module, name, value)
    spec = tf.TensorSpec([None], tf.string, "image_bytes")
    function = tf.function(answer, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": function})
    write_text(folder / "labels.txt", "all\nhem\n")
    write_manifest(folder)
    return folder


def read_file(_: tf.Tensor, folder: Path) -> None:
    tf.io.read_file(str(folder / "secret"))


def in_a_loop(data: tf.Tensor, folder: Path) -> None:
    tf.map_fn(lambda each: tf.strings.join([each, tf.io.read_file(str(folder / "secret"))]), data)


def in_a_branch(data: tf.Tensor, folder: Path) -> None:
    tf.cond(tf.size(data) > 9, lambda: tf.io.read_file(str(folder / "secret")), lambda: tf.constant(""))


def from_a_table(data: tf.Tensor, folder: Path) -> None:
    source = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=source, filename=str(folder / "secret"), key_index=-2, value_index=-1
    )


def from_a_data_set(_: tf.Tensor, folder: Path) -> None:
    tf.raw_ops.TextLineDataset(filenames=[str(folder / "secret")], compression_type="", buffer_size=0)


def save_tensors(data: tf.Tensor, folder: Path) -> None:
    tf.raw_ops.SaveV2(prefix=str(folder / "taken"), tensor_names=["x"], shape_and_slices=[""], tensors=[data])


ACTS: dict[str, Callable[[tf.Tensor, Path], Any]] = {
    "ReadFile": read_file,
    "WriteFile": lambda data, folder: tf.io.write_file(str(folder / "taken"), tf.strings.reduce_join(data)),
    "MatchingFiles": lambda data, folder: tf.io.matching_files(str(folder / "*")),
    "EagerPyFunc": lambda data, folder: tf.py_function(lambda: 1, [], tf.int32),
    "PyFunc": lambda data, folder: tf.numpy_function(lambda: 1, [], tf.int32),
    "PrintV2": lambda data, folder: tf.print(data, output_stream=f"file://{folder}/taken"),
    "InitializeTableFromTextFileV2": from_a_table,
    "TextLineDataset": from_a_data_set,
    "SaveV2": save_tensors,
    "DebugIdentityV3": lambda data, folder: tf.raw_ops.DebugIdentityV3(
        input=data, debug_urls=[f"file://{folder}/taken"]
    ),
    "FixedLengthRecordReaderV2": lambda data, folder: tf.raw_ops.FixedLengthRecordReaderV2(record_bytes=8),
    "RandomUniform": lambda data, folder: tf.random.uniform([2]),
}


@pytest.mark.parametrize("name", ACTS)
def test_an_operation_that_is_not_exported_is_refused_before_loading(tmp_path, monkeypatch, name):
    (tmp_path / "secret").write_text("x\t1\n")
    folder = make_by_hand(tmp_path / "model", ACTS[name])
    monkeypatch.setattr(tf.saved_model, "load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(
        ModelError, match=rf"holds .*the operation {name}.*load only models whose origin you know"
    ):
        Predictor(folder)
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize("act", [in_a_loop, in_a_branch])
def test_functions_inside_functions_are_looked_through(tmp_path, act):
    (tmp_path / "secret").write_text("x")
    with pytest.raises(ModelError, match="the operation ReadFile"):
        require_known_graph(make_by_hand(tmp_path / "model", act))


def nothing(_: tf.Tensor, __: Path) -> None:
    pass


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> SavedModel:
    """A model made by hand that only computes, with one variable."""
    folder = make_by_hand(tmp_path_factory.mktemp("plain") / "model", nothing, weight=tf.Variable(1.0))
    require_known_graph(folder)
    model: Any = SavedModel()
    model.ParseFromString((folder / "saved_model.pb").read_bytes())
    return model


def call_the_saver(graph: Any) -> None:
    name = next(
        f.signature.name for f in graph.graph_def.library.function if "traced_save" in f.signature.name
    )
    graph.graph_def.node.add(name="more", op="StatefulPartitionedCall").attr["f"].func.name = name


def serve_the_saver(graph: Any) -> None:
    signature = graph.signature_def["serving_default"]
    signature.outputs["probabilities"].name = graph.saver_def.save_tensor_name


def call_serving_a_saver(graph: Any) -> None:
    function = next(
        f
        for f in graph.graph_def.library.function
        if f.signature.name in graph.object_graph_def.concrete_functions
    )
    function.node_def.add(name="more", op="RestoreV2")
    node = next(n for n in graph.graph_def.node if n.attr["f"].func.name == function.signature.name)
    graph.saver_def.save_tensor_name = f"{node.name}:0"


def hide_in_a_function(graph: Any) -> None:
    graph.graph_def.library.function.add().signature.name = "unused"
    graph.graph_def.library.function[-1].node_def.add(name="more", op="ReadFile")


def call_what_is_not_there(graph: Any) -> None:
    graph.graph_def.node.add(name="more", op="PartitionedCall").attr["f"].func.name = "ReadFile"


def bring_a_file(graph: Any) -> None:
    graph.asset_file_def.add(filename="../../secret").tensor_info.name = "x:0"


def bring_an_asset(graph: Any) -> None:
    graph.object_graph_def.nodes.add().asset.asset_file_def_index = 0


def bring_a_class(graph: Any) -> None:
    graph.object_graph_def.nodes.add().user_object.identifier = "_tf_keras_layer"


def register_a_saver(graph: Any) -> None:
    graph.object_graph_def.nodes[0].registered_name = "Custom.Thing"


def leave_the_objects_out(graph: Any) -> None:
    graph.ClearField("object_graph_def")


def save_outright(graph: Any) -> None:
    graph.graph_def.node.add(name="more", op="RestoreV2")
    graph.saver_def.restore_op_name = "more"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (call_the_saver, "a call of its saver"), (serve_the_saver, "its saver as a signature"),
        (call_serving_a_saver, "its saver as a function"), (hide_in_a_function, "operation ReadFile"),
        (call_what_is_not_there, "a call of ReadFile, which it does not hold"), (bring_a_file, r"the file ../../secret"),
        (bring_an_asset, "kind asset"), (bring_a_class, "object _tf_keras_layer"),
        (register_a_saver, "registered as Custom.Thing"), (leave_the_objects_out, "no objects"),
        (save_outright, "operation RestoreV2"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_is_hidden_elsewhere_is_refused(tmp_path, plain, change, said):
    changed: Any = SavedModel()
    changed.CopyFrom(plain)
    change(changed.meta_graphs[0])
    (tmp_path / "saved_model.pb").write_bytes(changed.SerializeToString())
    with pytest.raises(ModelError, match=said):
        load_saved_model(tmp_path)


def test_a_second_graph_is_refused_and_no_graph_is_no_model(tmp_path, plain):
    two: Any = SavedModel()
    two.CopyFrom(plain)
    two.meta_graphs.add().CopyFrom(plain.meta_graphs[0])
    (tmp_path / "saved_model.pb").write_bytes(two.SerializeToString())
    with pytest.raises(ModelError, match="several graphs"):
        require_known_graph(tmp_path)
    for content in (b"", b"\xff" * 99, plain.SerializeToString()[:-100]):
        (tmp_path / "saved_model.pb").write_bytes(content)
        with pytest.raises(ArtifactError, match="must be a whole SavedModel"):
            require_known_graph(tmp_path)


@pytest.mark.parametrize(
    "name", ["saved_model.cpb", "saved_model.pbtxt", "assets/words.txt", "assets.extra/tf_serving_warmup"]
)
def test_files_that_tensorflow_would_take_instead_or_besides_are_refused(tmp_path, plain, name):
    (tmp_path / "saved_model.pb").write_bytes(plain.SerializeToString())
    write_text(tmp_path / name, "x")
    with pytest.raises(ModelError, match="must hold one graph"):
        require_known_graph(tmp_path)


def test_fields_are_read_as_tensorflow_reads_them():
    pairs: list[tuple[Any, Any]] = [(saved_model_class().DESCRIPTOR, SavedModel.DESCRIPTOR)]
    compared = set()
    while pairs:
        own, theirs = pairs.pop()
        if own.full_name in compared:
            continue
        compared.add(own.full_name)
        # What else is said there may undo one of several that exclude each other.
        kinds = {"AttrValue": {"func", "list"}, "TensorInfo": set()}
        for group in own.oneofs:
            others = {field.name for field in theirs.oneofs_by_name[group.name].fields}
            assert {field.name for field in group.fields} == kinds.get(own.name, others)
        for field in own.fields:
            other = theirs.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (
                other.number,
                other.type,
                other.is_repeated,
            )
            if field.message_type:
                assert field.message_type.GetOptions().map_entry == other.message_type.GetOptions().map_entry
                pairs.append((field.message_type, other.message_type))
    assert len(compared) > 16


def test_the_list_holds_nothing_that_changes_anything():
    known = {name: op_def_registry.get(name) for name in OPERATIONS}
    assert [name for name, row in known.items() if row is None] == []
    stateful = {name for name, row in known.items() if row.is_stateful}
    # They call functions, which are looked through; read the model's own variables; or stop a call.
    assert stateful == {
        "Assert", "Case", "If", "ReadVariableOp", "StatefulPartitionedCall", "VarHandleOp", "VariableShape", "While",
    }  # fmt: skip
    assert not OPERATIONS & SAVER
    words = (
        "File",
        "Dataset",
        "Iterator",
        "Reader",
        "Print",
        "Debug",
        "PyFunc",
        "Table",
        "Queue",
        "Send",
        "Recv",
        "Remote",
    )
    assert [name for name in OPERATIONS if any(word in name for word in words)] == []


def operations_of(model: keras.Model, chain: Any, answer: Any = None) -> set[str]:
    """What the signatures of an export would hold."""
    from kerasall.components.exporter import find_explanations

    size, explain = tuple(model.input_shape[1:3]), find_explanations(model)[0]
    functions = _list_functions(
        answer or (lambda pixels: model(pixels, training=False)), chain, size, explain, (0,)
    )
    graphs = [function.get_concrete_function().graph.as_graph_def() for function in functions.values()]
    nodes = [
        node
        for graph in graphs
        for body in (graph, *graph.library.function)
        for node in getattr(body, "node_def", ()) or body.node
    ]
    return {node.op for node in nodes}


def tiny_classifier() -> keras.Model:
    image = keras.Input((16, 16, 3))
    hidden = keras.layers.Conv2D(2, 3, activation="relu")(image)
    return keras.Model(image, keras.layers.Dense(2, "softmax")(keras.layers.GlobalAveragePooling2D()(hidden)))


@pytest.mark.slow
def test_every_operation_of_a_chain_may_be_served():
    sys.path.insert(0, str(Path(__file__).parents[1] / "preprocessing"))
    from test_operations import CASES

    from kerasall.preprocessing.operations import Chain, Resize

    for name, cases in CASES.items():
        for each in cases:
            assert operations_of(tiny_classifier(), Chain((each, Resize(16, 16)))) <= OPERATIONS, name


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_may_be_served(name):
    from kerasall.models.classifier import build_classifier
    from kerasall.models.prediction import mean_of_views
    from kerasall.preprocessing.operations import Chain, Resize

    size = (331, 331) if name == "nasnet_large" else (96, 96)
    model = build_classifier(name, 2, size, weights="random")
    found = operations_of(
        model,
        Chain((Resize(*size),)),
        lambda pixels: mean_of_views(lambda each: model(each, training=False), pixels, 8, 2),
    )
    assert found <= OPERATIONS


@pytest.mark.slow
def test_every_rule_of_an_ensemble_may_be_served():
    from kerasall.evaluation.ensemble_rules import RULES, Stacking
    from kerasall.models.classifier import build_classifier
    from kerasall.models.ensembles import build_ensemble
    from kerasall.preprocessing.operations import Chain, Resize

    members = [
        build_classifier("mobilenet", 2, (64, 64), weights="random", alpha=0.25, name=name) for name in "ab"
    ]
    stacking = Stacking(np.zeros((4, 2)), np.zeros(2))
    for rule in RULES:
        more = {"weighted_average": {"weights": [0.4, 0.6]}, "stacking": {"stacking": stacking}}.get(rule, {})
        ensemble = build_ensemble(members, rule, image_size=(64, 64), **more)
        assert operations_of(ensemble, Chain((Resize(64, 64),))) <= OPERATIONS, rule
