"""What a SavedModel's graph may hold, asked before anything of it is loaded or run.

TensorFlow runs whatever a graph says, and graphs can read and write files, open sockets and call Python. The models that
kerasall exports do arithmetic on images. So a graph is read as data first, every function and every node of it, and
loaded only where each operation is one of ``OPERATIONS``. That list is of what kerasall exports: every backbone, head,
operation of a chain, rule of an ensemble, classifier of features, safeguard and map, and what the layers of Keras need
that ``kerasall.export`` takes. ``tests/serving/test_graph.py`` makes them and holds the list to it.

Each was looked at: it computes from its inputs and the model's variables alone. None reads or writes a file, a socket or
a queue, prints, draws at random, changes a variable, or calls Python; ``Assert`` stops a call. A model can still be wrong
on purpose, or ask for much memory or time: it is a program.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from kerasall.errors import ArtifactError, ModelError
from kerasall.runtime import quiet_tensorflow
from kerasall.serving.graph_fields import saved_model_class

FILE = "saved_model.pb"

SAVER = frozenset(
    {"AssignVariableOp", "DisableCopyOnRead", "MergeV2Checkpoints", "RestoreV2", "SaveV2", "ShardedFilename"}
)
"""Operations that read and write files of variables, or change them: in the two functions of the saver alone, which
nothing else may call."""

_NAMES = """
    Abs Acos Acosh AddN AddV2 AdjustContrastv2 AdjustHue AdjustSaturation All Any ArgMax ArgMin Asin Asinh
    Assert Atan Atan2 Atanh AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad BatchMatMulV2 BatchMatMulV3
    BatchToSpaceND BiasAdd BiasAddGrad Bincount Bitcast BitwiseAnd BitwiseOr BitwiseXor BroadcastGradientArgs
    BroadcastTo Bucketize Case Cast Ceil Cholesky ClipByValue Complex ConcatOffset ConcatV2 Conj Const Conv
    Conv2D Conv2DBackpropFilter Conv2DBackpropInput Conv3D Conv3DBackpropFilterV2 Conv3DBackpropInputV2 Cos Cosh
    CropAndResize Cross Cumprod Cumsum DecodeAndCropJpeg DecodeBmp DecodeImage DecodeJpeg DecodePng DecodeRaw
    DenseBincount DepthToSpace DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter
    DepthwiseConv2dNativeBackpropInput Digamma Dilation2D DivNoNan DynamicStitch Einsum Elu EluGrad
    EmptyTensorList EnsureShape Equal Erf Erfc Exp ExpandDims Expm1 ExtractImagePatches FFT2D Fill Floor
    FloorDiv FloorMod FusedBatchNormGradV3 FusedBatchNormV3 GatherNd GatherV2 Greater GreaterEqual HSVToRGB
    IFFT2D IRFFT2D Identity IdentityN If Imag InTopKV2 Inv Invert InvertPermutation IsFinite IsInf IsNan LRN
    LRNGrad LeakyRelu LeakyReluGrad LeftShift Less LessEqual Lgamma LinSpace ListDiff Log Log1p LogSoftmax
    LogicalAnd LogicalNot LogicalOr MatMul MatrixBandPart MatrixDiagPartV3 MatrixDiagV3 MatrixInverse
    MatrixSolve MatrixTriangularSolve Max MaxPool MaxPool3D MaxPool3DGrad MaxPoolGrad MaxPoolV2
    MaxPoolWithArgmax Maximum Mean Min Minimum MirrorPad MirrorPadGrad Mod Mul MulNoNan Ndtri Neg NoOp
    NonMaxSuppressionV3 NotEqual OneHot OnesLike Pack Pad PadV2 ParallelConcat PartitionedCall Placeholder Pow
    PreventGradient Prod Qr RFFT2D RGBToHSV Range Rank ReadVariableOp Real RealDiv Reciprocal ReciprocalGrad
    Relu Relu6 Relu6Grad ReluGrad Reshape ResizeArea ResizeBicubic ResizeBicubicGrad ResizeBilinear
    ResizeBilinearGrad ResizeNearestNeighbor ResizeNearestNeighborGrad ReverseSequence ReverseV2 RightShift Rint
    Roll Round Rsqrt RsqrtGrad ScaleAndTranslate ScaleAndTranslateGrad ScatterNd SegmentMean SegmentSum Select
    SelectV2 SelfAdjointEigV2 Selu SeluGrad Shape ShapeN Sigmoid SigmoidGrad Sign Sin Sinh Size Slice Snapshot
    Softmax SoftmaxCrossEntropyWithLogits Softplus Softsign SoftsignGrad SpaceToBatchND SpaceToDepth
    SparseSoftmaxCrossEntropyWithLogits Split Sqrt SqrtGrad Square SquaredDifference Squeeze
    StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile StaticRegexFullMatch StopGradient
    StridedSlice StridedSliceGrad StringJoin StringLength Sub Substr Sum Svd Tan Tanh TanhGrad
    TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem
    TensorListLength TensorListPopBack TensorListPushBack TensorListReserve TensorListResize TensorListScatterV2
    TensorListSetItem TensorListSplit TensorListStack TensorScatterAdd TensorScatterUpdate Tile TopKV2 Transpose
    TruncateDiv TruncateMod Unique UniqueV2 Unpack UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd
    UnsortedSegmentSum VarHandleOp VariableShape Where While Xdivy Xlog1py Xlogy ZerosLike
"""
OPERATIONS = frozenset(_NAMES.split())
"""Operations that may stand anywhere in a graph."""

_REGISTERED = {"", "tf.TrackableConstant"}
"""Classes of objects that TensorFlow restores by name: a constant does nothing."""
_OBJECTS = {"user_object", "variable", "bare_concrete_function", "constant", "captured_tensor"}
_IDENTIFIERS = {
    "_generic_user_object",
    "trackable_list_wrapper",
    "trackable_dict_wrapper",
    "signature_map",
    "tf_module",
}
"""Kinds of objects beside the graph; others bring files along, or classes that are looked up by name."""


Interface = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Signature -> "inputs" and "outputs" -> name -> kind and shape: ``["float32", [None, 2]]``."""


class SavedModel:
    """A SavedModel that TensorFlow reads when it is first asked: importing it takes seconds.

    Args:
        folder: whose manifest has been verified.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def model(self) -> Any:
        """What TensorFlow made of it.

        Raises:
            ArtifactError, ModelError: as ``load_saved_model``.
        """
        with quiet_tensorflow():
            return load_saved_model(self.folder)

    @property
    def is_loaded(self) -> bool:
        """Whether it was asked already."""
        return "model" in vars(self)

    def load(self) -> None:
        """Asks it now."""
        self.model  # noqa: B018

    @property
    def signatures(self) -> Mapping[str, Any]:
        """Its functions by name."""
        return self.model.signatures

    def describe(self) -> Interface:
        """What its functions take and give."""
        return {
            name: {
                "inputs": _describe_tensors(function.structured_input_signature[1]),
                "outputs": _describe_tensors(function.structured_outputs),
            }
            for name, function in self.signatures.items()
        }


def _describe_tensors(specs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: [spec.dtype.name, list(spec.shape)] for name, spec in specs.items()}


def load_saved_model(folder: str | Path) -> Any:
    """Loads a SavedModel whose graph was looked through.

    Raises:
        ArtifactError: it is no whole SavedModel.
        ModelError: its graph holds what kerasall does not export.
    """
    import tensorflow as tf

    require_known_graph(folder)
    try:
        return tf.saved_model.load(str(folder))
    except (
        OSError,
        ValueError,
        RuntimeError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        tf.errors.OpError,
    ) as error:
        raise _not_whole(Path(folder), error) from None


def require_known_graph(folder: str | Path) -> None:
    """Refuses a SavedModel that does more than compute; without TensorFlow.

    Raises:
        ArtifactError: it is no whole SavedModel.
        ModelError: it has an operation, an object or a file that no export of kerasall has; the message names them.
    """
    folder = Path(folder)
    _require_one_graph(folder)
    model = saved_model_class()()
    try:
        model.ParseFromString((folder / FILE).read_bytes())
    except (DecodeError, OSError) as error:
        raise _not_whole(folder, error) from None
    if not len(model.meta_graphs):
        raise _not_whole(folder, ValueError("it holds no graph"))
    foreign = sorted({what for graph in model.meta_graphs for what in _foreign(graph)})
    if foreign or len(model.meta_graphs) > 1:
        found = ", ".join(foreign[:8]) or "several graphs"
        raise ModelError(
            f"{folder} must be made of what kerasall exports, but its graph holds {found}, which might read or write "
            "files or run code: load only models whose origin you know, and export this one with kerasall"
        )


def _not_whole(folder: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{folder} must be a whole SavedModel, but loading it failed: {error}")


def _require_one_graph(folder: Path) -> None:
    """TensorFlow takes a graph of another name first, and files of folders beside it."""
    for name in sorted(os.listdir(folder)):
        path = folder / name
        others = name.startswith("saved_model.") and name != FILE
        if others or (path.is_dir() and name != "variables" and any(p.is_file() for p in path.rglob("*"))):
            raise ModelError(
                f"{folder} must hold one graph, {FILE}, and its variables, but also holds {name}, which TensorFlow might "
                "read: remove it, or export the model again"
            )


def _foreign(graph: Any) -> Iterator[str]:
    """What one graph holds that no export does."""
    library = graph.graph_def.library.function
    known = {function.signature.name for function in library}
    saver = {graph.saver_def.save_tensor_name.partition(":")[0], graph.saver_def.restore_op_name} - {""}
    own = {name for node in graph.graph_def.node if node.name in saver for name in _called(node)}
    bodies = [
        ("", graph.graph_def.node),
        *((function.signature.name, function.node_def) for function in library),
    ]
    for name, nodes in bodies:
        for node in nodes:
            if node.op not in OPERATIONS and not (name in own and node.op in SAVER):
                yield f"the operation {node.op}"
            called = set(_called(node))
            if called - known:
                yield f"a call of {min(called - known)}, which it does not hold"
            if called & own and (name or node.name not in saver):
                yield "a call of its saver"
            if not name and saver & {_node_of(each) for each in node.input}:
                yield "a use of its saver's answer"
    for signature in graph.signature_def.values():
        if saver & {_node_of(tensor.name) for tensor in signature.outputs.values()}:
            yield "its saver as a signature"
    yield from _foreign_objects(graph, own)


def _foreign_objects(graph: Any, own: set[str]) -> Iterator[str]:
    objects = graph.object_graph_def
    if not len(objects.nodes):
        yield "no objects"
    for node in objects.nodes:
        kind = node.WhichOneof("kind")
        if kind not in _OBJECTS:
            yield f"an object of the kind {kind}"
        elif kind == "user_object" and node.user_object.identifier not in _IDENTIFIERS:
            yield f"an object {node.user_object.identifier}"
        if node.registered_name not in _REGISTERED or node.registered_saver:
            yield f"an object registered as {node.registered_name or node.registered_saver}"
    if own & set(objects.concrete_functions):
        yield "its saver as a function"
    yield from (f"the file {asset.filename}" for asset in graph.asset_file_def)


def _node_of(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _called(node: Any) -> Iterator[str]:
    """Names of the functions that a node calls, in whichever of its attributes."""
    for value in node.attr.values():
        if value.WhichOneof("value") == "func":
            yield value.func.name
        yield from (function.name for function in value.list.func)
