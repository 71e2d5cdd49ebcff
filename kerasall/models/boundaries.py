"""Where the ten backbones may be cut: the lower boundary of each of their late blocks.

A boundary carries all that passes from below a block into it. It is where training may begin
(everything below frozen) and where activations may be stored. The names are those of
Keras Applications 3.15; layers Keras leaves unnamed bear the names ``build_backbone`` gives them.
"""

from __future__ import annotations

import itertools

Boundary = tuple[str, ...]
"""Names of the layers whose outputs pass into a block. One, but for NASNet, whose cells read two."""


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
    blocks = [("stem", "mixed_5b")]
    blocks += [(f"block35_{i}", f"block35_{i}_ac") for i in range(1, 11)] + [("reduction_6a", "mixed_6a")]
    blocks += [(f"block17_{i}", f"block17_{i}_ac") for i in range(1, 21)] + [("reduction_7a", "mixed_7a")]
    blocks += [(f"block8_{i}", f"block8_{i}_ac") for i in range(1, 10)] + [
        ("block8_10", "custom_scale_layer_39")
    ]
    return _chain([*blocks, ("top", "conv_7b_ac")])


def nasnet_large_blocks() -> dict[str, Boundary]:
    """Cells 14 to 18 and 8 to 12; the cells after a reduction read maps of two sizes and are left out."""
    # A cell reads the two before it. Only where those have one height and width do they make a boundary.
    blocks: dict[str, Boundary] = {}
    for first in (14, 8):
        outputs = {i: f"normal_concat_{i}" for i in range(first - 1, first + 5)}
        outputs[first - 2] = f"reduction_concat_reduce_{first - 2}"
        blocks |= {f"cell_{i}": (outputs[i - 1], outputs[i - 2]) for i in range(first + 4, first - 1, -1)}
    return blocks
