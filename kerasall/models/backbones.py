"""The ten backbones, one row each. Adding one adds a row and its weights, and the parametrised tests pick it up.

Read from the sources of Keras Applications 3.15. The table loads no TensorFlow, so settings can be checked against it
quickly; ``base.py`` builds what a row describes.

A row also says where its backbone may be cut: at the lower boundary of each of its late blocks, which carries all
that passes from below into the block. There training may begin (everything below frozen) and activations may be
stored. Layers Keras leaves unnamed bear the names ``build_backbone`` gives them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

from kerasall.errors import SettingsError, did_you_mean

Boundary = tuple[str, ...]
"""Names of the layers whose outputs pass into a block. One, but for NASNet, whose cells read two."""

Preprocess = Literal["tf", "torch", "caffe"]

_STORE = "https://storage.googleapis.com/tensorflow/keras-applications"
_ORDERING = "weights_tf_dim_ordering_tf_kernels"


@dataclass(frozen=True)
class WeightsFile:
    """One file of ImageNet weights without the top layers.

    Attributes:
        name: the file's name in Keras' cache and in a weights folder.
        url: where Keras downloads it from.
        md5: the hash Keras checks its download by; "" where Keras publishes none.
        sha256: hashes of files that were checked by other means, for example repacked ones.
        arrays: SHA-256 over the weight arrays in layer order (``sha256_of_arrays``), the same for
            every container of the same numbers.
        aliases: other names it is accepted under in a weights folder.
    """

    name: str
    url: str
    md5: str = ""
    sha256: tuple[str, ...] = ()
    arrays: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Backbone:
    """One architecture of Keras Applications, without its top.

    Attributes:
        name: key in ``BACKBONES`` and name of the part in a classifier.
        constructor: name of the function in ``keras.applications``.
        preprocess: how it was trained to see pixels: "tf" maps 0..255 to -1..1; "torch" scales to
            0..1 and standardises by ImageNet's channel means and deviations; "caffe" swaps RGB to
            BGR and subtracts ImageNet's channel means.
        last_convolution: layer whose output is the last feature map of the convolutions, the one
            Grad-CAM reads. Only the VGGs pool once more after it.
        blocks: name of a block -> the layers at its lower boundary, from the top downwards.
        weights: alpha -> file of ImageNet weights.
        native_size: side in pixels of the images it was trained on.
        min_size: the smallest side Keras accepts.
    """

    name: str
    constructor: str
    preprocess: Preprocess
    last_convolution: str
    blocks: dict[str, Boundary]
    weights: dict[float, WeightsFile] = field(repr=False)
    native_size: int = 224
    min_size: int = 32

    @property
    def takes_alpha(self) -> bool:
        """Whether the width multiplier ``alpha`` may differ from 1: only for the MobileNets."""
        return self.constructor.startswith("MobileNet")


def _chain(blocks: list[tuple[str, str]]) -> dict[str, Boundary]:
    """Blocks listed upwards as (block, layer it ends with) -> each block's lower boundary, downwards."""
    pairs = [(upper, (ending,)) for (_, ending), (upper, _) in itertools.pairwise(blocks)]
    return dict(reversed(pairs))


def resnet_blocks(*depths: int) -> dict[str, Boundary]:
    """Residual blocks of conv2 to conv5; ``depths`` are their numbers per stage."""
    names = [f"conv{stage}_block{i}" for stage, depth in enumerate(depths, 2) for i in range(1, depth + 1)]
    return _chain([("stem", "pool1_pool")] + [(name, f"{name}_out") for name in names])


def densenet_blocks(*depths: int) -> dict[str, Boundary]:
    """Dense layers of conv2 to conv5; ``depths`` are their numbers per stage."""
    blocks = [("stem", "pool1")]
    for stage, depth in enumerate(depths, 2):
        blocks += [(f"conv{stage}_block{i}", f"conv{stage}_block{i}_concat") for i in range(1, depth + 1)]
        # The transition has no name of its own: it counts as the last thing of its stage.
        if stage < 5:
            blocks[-1] = (blocks[-1][0], f"pool{stage}_pool")
    return _chain(blocks)


def vgg_blocks() -> dict[str, Boundary]:
    """The blocks between two poolings."""
    return _chain([(f"block{i}", f"block{i}_pool") for i in range(1, 6)])


def mobilenet_blocks() -> dict[str, Boundary]:
    """Depthwise and pointwise convolutions 1 to 13."""
    return _chain([("stem", "conv1_relu")] + [(f"block_{i}", f"conv_pw_{i}_relu") for i in range(1, 14)])


def mobilenet_v2_blocks() -> dict[str, Boundary]:
    """Inverted residual blocks 1 to 16, and the last convolution as ``top``."""
    plain = (1, 3, 6, 10, 13, 16)  # blocks that change stride or width have no residual sum
    endings = [(f"block_{i}", f"block_{i}_{'project_BN' if i in plain else 'add'}") for i in range(1, 17)]
    return _chain([("block_0", "expanded_conv_project_BN"), *endings, ("top", "out_relu")])


def xception_blocks() -> dict[str, Boundary]:
    """Blocks 2 to 14."""
    sums = ["add"] + [f"add_{i}" for i in range(1, 12)]
    return _chain(
        [("stem", "block1_conv2_act")]
        + [(f"block{i}", add) for i, add in enumerate(sums, 2)]
        + [("block14", "")]
    )


def inception_resnet_v2_blocks() -> dict[str, Boundary]:
    """The three kinds of blocks, the two reductions, and the last convolution as ``top``."""
    return _chain(
        [("stem", "mixed_5b")]
        + [(f"block35_{i}", f"block35_{i}_ac") for i in range(1, 11)]
        + [("reduction_6a", "mixed_6a")]
        + [(f"block17_{i}", f"block17_{i}_ac") for i in range(1, 21)]
        + [("reduction_7a", "mixed_7a")]
        + [(f"block8_{i}", f"block8_{i}_ac") for i in range(1, 10)]
        + [("block8_10", "custom_scale_layer_39"), ("top", "conv_7b_ac")]
    )


def nasnet_large_blocks() -> dict[str, Boundary]:
    """Cells 14 to 18 and 8 to 12; the cells after a reduction read maps of two sizes and are left out."""
    # A cell reads the two before it. Only where those have one height and width do they make a boundary.
    blocks: dict[str, Boundary] = {}
    for first in (14, 8):
        outputs = {i: f"normal_concat_{i}" for i in range(first - 1, first + 5)}
        outputs[first - 2] = f"reduction_concat_reduce_{first - 2}"
        blocks |= {f"cell_{i}": (outputs[i - 1], outputs[i - 2]) for i in range(first + 4, first - 1, -1)}
    return blocks


def _file(path: str, name: str = "", **known: Any) -> WeightsFile:
    return WeightsFile(name or path.rsplit("/", 1)[-1], f"{_STORE}/{path}", **known)


def _full_width(path: str, name: str = "", **known: Any) -> dict[float, WeightsFile]:
    return {1.0: _file(path, name, **known)}


_WEIGHTS: dict[str, dict[float, WeightsFile]] = {
    "mobilenet": {
        1.0: _file(
            "mobilenet/mobilenet_1_0_224_tf_no_top.h5",
            sha256=("d9140c7e6e85495e5ab848b28cebe696bdfa7f899ab698ba787e6e979856ea41",),
            arrays="f4e72e831176fe84ad12b156ff17a912af37577e43a39ae8880fdbb613abc19a",
        ),
        0.75: _file("mobilenet/mobilenet_7_5_224_tf_no_top.h5"),
        0.5: _file("mobilenet/mobilenet_5_0_224_tf_no_top.h5"),
        0.25: _file(
            "mobilenet/mobilenet_2_5_224_tf_no_top.h5",
            sha256=("dbdb03ee2a22fd895301636cd328b234bb3a9952358f436d82f46b81e0d5b0bf",),
            arrays="c0d01bb05a5e970ac2337419f54e33f020c7629f51180e6e1c9c905f83be6522",
        ),
    },
    "mobilenet_v2": {
        alpha: _file(f"mobilenet_v2/mobilenet_v2_{_ORDERING}_{alpha}_224_no_top.h5")
        for alpha in (1.4, 1.3, 1.0, 0.75, 0.5)
    }
    | {
        0.35: _file(
            f"mobilenet_v2/mobilenet_v2_{_ORDERING}_0.35_224_no_top.h5",
            sha256=("2c81c9b1bd85fca57677411a76acd0ce347da981eb39557c15d87aaaa9cfdfae",),
            arrays="181c5c450265538116b977643e4571e2531214f7bf3b0499573e78a7d3c9aac5",
        )
    },
    "resnet50": _full_width(f"resnet/resnet50_{_ORDERING}_notop.h5", md5="4d473c1dd8becc155b73f8504c6f6626"),
    "resnet101": _full_width(
        f"resnet/resnet101_{_ORDERING}_notop.h5", md5="88cf7a10940856eca736dc7b7e228a21"
    ),
    "vgg16": _full_width(
        f"vgg16/vgg16_{_ORDERING}_notop.h5",
        md5="6d6bbae143d832006294945121d1f1fc",
        sha256=("c3355916e2b5ed6b3efa87293a923fca28d3a5f9ed8c0717556756fbfd1269f2",),
    ),
    "vgg19": _full_width(f"vgg19/vgg19_{_ORDERING}_notop.h5", md5="253f8cb515780f3b799900260a226db6"),
    "densenet121": _full_width(
        f"densenet/densenet121_{_ORDERING}_notop.h5", md5="30ee3e1110167f948a6b9946edeeb738"
    ),
    "xception": _full_width(
        f"xception/xception_{_ORDERING}_notop.h5", md5="b0042744bf5b25fce3cb969f33bebb97"
    ),
    "inception_resnet_v2": _full_width(
        f"inception_resnet_v2/inception_resnet_v2_{_ORDERING}_notop.h5",
        md5="d19885ff4a710c122648d3b5c3b684e4",
    ),
    "nasnet_large": _full_width(
        "nasnet/NASNet-large-no-top.h5",
        name="nasnet_large_no_top.h5",
        md5="d81d89dc07e6e56530c4e77faddd61b5",
        aliases=("NASNet-large-no-top.h5",),
    ),
}
"""Name of an architecture -> alpha -> its file."""

# Name, constructor, preprocess, last convolution, blocks, native size, smallest size: as of ``Backbone``.
_ROWS: tuple[tuple[str, str, Preprocess, str, dict[str, Boundary], int, int], ...] = (
    ("mobilenet", "MobileNet", "tf", "conv_pw_13_relu", mobilenet_blocks(), 224, 32),
    ("mobilenet_v2", "MobileNetV2", "tf", "out_relu", mobilenet_v2_blocks(), 224, 32),
    ("resnet50", "ResNet50", "caffe", "conv5_block3_out", resnet_blocks(3, 4, 6, 3), 224, 32),
    ("resnet101", "ResNet101", "caffe", "conv5_block3_out", resnet_blocks(3, 4, 23, 3), 224, 32),
    ("vgg16", "VGG16", "caffe", "block5_conv3", vgg_blocks(), 224, 32),
    ("vgg19", "VGG19", "caffe", "block5_conv4", vgg_blocks(), 224, 32),
    ("densenet121", "DenseNet121", "torch", "relu", densenet_blocks(6, 12, 24, 16), 224, 32),
    ("xception", "Xception", "tf", "block14_sepconv2_act", xception_blocks(), 299, 71),
    ("inception_resnet_v2", "InceptionResNetV2", "tf", "conv_7b_ac", inception_resnet_v2_blocks(), 299, 75),
    ("nasnet_large", "NASNetLarge", "tf", "activation_259", nasnet_large_blocks(), 331, 32),
)

BACKBONES: dict[str, Backbone] = {
    name: Backbone(name, constructor, preprocess, last, blocks, _WEIGHTS[name], native_size, min_size)
    for name, constructor, preprocess, last, blocks, native_size, min_size in _ROWS
}
"""All architectures by name."""


def get_backbone(name: str) -> Backbone:
    """The row called ``name``.

    Raises:
        SettingsError: there is none; the message names the nearest.
    """
    if name not in BACKBONES:
        cure = did_you_mean(name, BACKBONES, "choose one of these")
        raise SettingsError(f"the backbone must be one of {', '.join(BACKBONES)}, but is {name!r}: {cure}")
    return BACKBONES[name]


def find_block(row: Backbone, name: str) -> str:
    """The block called ``name``, or the lowest of those whose names begin with ``name_``.

    Raises:
        SettingsError: there is none; the message names the nearest.
    """
    if name in row.blocks:
        return name
    if matches := [block for block in row.blocks if block.startswith(f"{name}_")]:
        return matches[-1]
    cure = did_you_mean(name, row.blocks, f"they are {', '.join(row.blocks)}")
    raise SettingsError(
        f"{row.name} must have the block to unfreeze from, but has none called {name!r}: {cure}"
    )
