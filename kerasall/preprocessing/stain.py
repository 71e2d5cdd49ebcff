"""Stain normalisation: every image gets the colours of the training images; and its opposite, a stated shift of the stain.

The fit reads training images only and gives an operation with frozen numbers, so that the chain, and the
exported model with it, carries the fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import tensorflow as tf

from kerasall.errors import DataError, SettingsError
from kerasall.preprocessing.arguments import KeepsSize, require_number, require_numbers
from kerasall.preprocessing.contrast import mix_channels

# Reinhard et al. 2001, equations 4 and 6: linear RGB to cone responses, their logarithms to l, alpha, beta.
_RGB_TO_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_LOG_LMS_TO_LAB = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
_LEAST_LMS = 1.0 / 255.0  # the logarithm of black

# Macenko et al. 2009, section 2: thinner pixels are background. Here the mean of the three densities counts:
# asking it of every channel, as many do, loses the cells of smears whose blue channel is all but saturated.
_LEAST_DENSITY = 0.15
_ANGLE_PERCENT = (1.0, 99.0)
_STRENGTH_PERCENT = 99.0
_LEAST_PIXELS = 100  # fewer stained pixels tell nothing about the stains
_PIXELS_PER_IMAGE = 2000

# Optical densities of haematoxylin, eosin and DAB in red, green and blue (Ruifrok & Johnston 2001, Table 1).
_DYES = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


@dataclass(frozen=True)
class ReinhardNormalization(KeepsSize):
    """Shifts and scales the image's colours to a given mean and deviation in the space l, alpha, beta.

    Pixels whose every channel is under ``darkest`` (a blackened background) take no part and stay.

    Attributes:
        mean: of l, alpha and beta over the training images' pixels (logarithms of base 10).
        deviation: standard deviations of the same, each above 0.
        darkest: grey level, 0 to 255; 0 lets every pixel take part.

    Source: Reinhard, Ashikhmin, Gooch, Shirley, Color transfer between images, 2001, equation 11.
    """

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    darkest: float = 5.0
    name: ClassVar[str] = "reinhard"

    def __post_init__(self) -> None:
        require_numbers(self, "mean", 3)
        require_numbers(self, "deviation", 3, 1e-6)
        require_number(self, "darkest", 0, 255)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        lit = _lit(image, self.darkest)
        lab = _to_lab(image)
        mean, deviation = _moments(tf.boolean_mask(lab, lit))
        scale = tf.where(deviation > 1e-4, self.deviation / tf.maximum(deviation, 1e-4), 1.0)
        return tf.where(lit[:, :, None], _from_lab((lab - mean) * scale + self.mean), image)


@dataclass(frozen=True)
class MacenkoNormalization(KeepsSize):
    """Finds the image's two stains and gives them the training images' colours and strengths.

    Optical densities D = -ln((I + 1) / 256) of the stained pixels lie near a plane through the origin; the
    two stains are the 1st and 99th percentile of their directions within it. Each pixel's amounts of both
    are scaled so that their 99th percentiles become ``strengths``, and recombined with the given colours.
    Images with hardly any stained pixel, and pixels darker than ``darkest``, stay as they are.

    Attributes:
        basic_dye: optical densities in red, green and blue of the stain that absorbs more red (azure or
            haematoxylin: nuclei), scaled to length 1.
        acid_dye: the same of the other one (eosin).
        strengths: 99th percentiles of the amounts of both, above 0.
        darkest: as for ``ReinhardNormalization``.

    Source: Macenko et al., A method for normalizing histology slides for quantitative analysis, 2009.
    """

    basic_dye: tuple[float, float, float]
    acid_dye: tuple[float, float, float]
    strengths: tuple[float, float]
    darkest: float = 5.0
    name: ClassVar[str] = "macenko"

    def __post_init__(self) -> None:
        require_numbers(self, "basic_dye", 3, -1, 1)
        require_numbers(self, "acid_dye", 3, -1, 1)
        require_numbers(self, "strengths", 2, 1e-3)
        require_number(self, "darkest", 0, 255)
        if np.linalg.norm(np.cross(self.basic_dye, self.acid_dye)) < 1e-3:
            raise SettingsError(
                "macenko: basic_dye and acid_dye must point in two directions, but are "
                f"{list(self.basic_dye)} and {list(self.acid_dye)}: fit them again"
            )

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        lit = _lit(image, self.darkest)
        density = _to_density(image)
        stained = tf.boolean_mask(density, lit & _is_stained(density))
        enough = tf.shape(stained)[0] >= _LEAST_PIXELS
        # An identity stands in where nothing can be estimated; its result is thrown away below.
        stained = tf.cond(enough, lambda: stained, lambda: tf.eye(3))
        stains, strengths = _estimate_stains(stained)
        plane = tf.linalg.norm(tf.linalg.cross(stains[0], stains[1])) > 1e-3
        amounts = mix_channels(density, _unmixing(stains))
        amounts *= tf.math.divide_no_nan(tf.constant(self.strengths), strengths)
        recombined = mix_channels(amounts, tf.constant([self.basic_dye, self.acid_dye]))
        normalized = tf.clip_by_value(256.0 * tf.exp(-recombined) - 1.0, 0.0, 255.0)
        return tf.where(lit[:, :, None] & enough & plane, normalized, image)


@dataclass(frozen=True)
class StainShift(KeepsSize):
    """Multiplies how much of two dyes the image shows, as another batch of stain or another scanner might.

    A pixel's optical density D = -ln((I + 1) / 256) is taken for a sum of amounts of a blue (basic) and a pink (acid) dye and
    of a brown rest, in the colours of haematoxylin, eosin and DAB. Pixels whose every channel is under ``darkest`` (a
    blackened background) stay.

    Attributes:
        basic: factor of the blue dye, 0.2 to 5; 1 leaves it.
        acid: factor of the pink dye, 0.2 to 5.
        darkest: grey level, 0 to 255; 0 lets every pixel take part.

    Source: Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, 2001, table 1.
    """

    basic: float = 1.0
    acid: float = 1.0
    darkest: float = 5.0
    name: ClassVar[str] = "stain_shift"

    def __post_init__(self) -> None:
        require_number(self, "basic", 0.2, 5)
        require_number(self, "acid", 0.2, 5)
        require_number(self, "darkest", 0, 255)

    def __call__(self, image: tf.Tensor) -> tf.Tensor:
        change = np.linalg.inv(_DYES) @ np.diag([self.basic, self.acid, 1.0]) @ _DYES
        density = mix_channels(_to_density(image), change)
        changed = tf.clip_by_value(256.0 * tf.exp(-density) - 1.0, 0.0, 255.0)
        return tf.where(_lit(image, self.darkest)[:, :, None], changed, image)


def fit_reinhard(images: Iterable[np.ndarray], darkest: float = 5.0) -> ReinhardNormalization:
    """The average of the images' own means and deviations.

    Args:
        images: uint8 [H, W, 3] RGB, training images only.
        darkest: as in the result.

    Raises:
        DataError: no image has a pixel that takes part.
    """
    moments = []
    for image in images:
        pixels = tf.constant(image, tf.float32)
        lit = _lit(pixels, darkest)
        if tf.reduce_any(lit):
            moments.append(np.stack(_moments(tf.boolean_mask(_to_lab(pixels), lit))))
    if not moments:
        raise _nothing_to_fit("reinhard")
    mean, deviation = np.mean(moments, axis=0).tolist()
    return ReinhardNormalization(mean, deviation, darkest)


def fit_macenko(images: Iterable[np.ndarray], darkest: float = 5.0) -> MacenkoNormalization:
    """The stains of all images' stained pixels together; up to 2,000 pixels, evenly spaced, of each image.

    Args:
        images: uint8 [H, W, 3] RGB, training images only.
        darkest: as in the result.

    Raises:
        DataError: fewer than 100 stained pixels in all.
    """
    found = []
    for image in images:
        pixels = tf.constant(image, tf.float32)
        density = _to_density(pixels)
        stained = tf.boolean_mask(density, _lit(pixels, darkest) & _is_stained(density)).numpy()
        found.append(stained[:: max(1, len(stained) // _PIXELS_PER_IMAGE)][:_PIXELS_PER_IMAGE])
    if sum(map(len, found)) < _LEAST_PIXELS:
        raise _nothing_to_fit("macenko")
    stains, strengths = _estimate_stains(tf.constant(np.concatenate(found)))
    basic_dye, acid_dye = stains.numpy().tolist()
    return MacenkoNormalization(basic_dye, acid_dye, strengths.numpy().tolist(), darkest)


def _nothing_to_fit(name: str) -> DataError:
    return DataError(
        f"{name} must see stained pixels in the training images, but found none or hardly any: check the "
        "images, or leave the operation out"
    )


def _lit(image: tf.Tensor, darkest: float) -> tf.Tensor:
    return tf.reduce_max(image, axis=-1) >= darkest


def _to_lab(image: tf.Tensor) -> tf.Tensor:
    lms = tf.maximum(mix_channels(image / 255.0, _RGB_TO_LMS.T), _LEAST_LMS)
    return mix_channels(tf.math.log(lms) / np.log(10.0), _LOG_LMS_TO_LAB.T)


def _from_lab(lab: tf.Tensor) -> tf.Tensor:
    lms = tf.pow(10.0, mix_channels(lab, np.linalg.inv(_LOG_LMS_TO_LAB).T))
    return tf.clip_by_value(255.0 * mix_channels(lms, np.linalg.inv(_RGB_TO_LMS).T), 0.0, 255.0)


def _moments(pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and standard deviation [3] of pixels [N, 3]; zeros for none."""
    count = tf.maximum(tf.cast(tf.shape(pixels)[0], tf.float32), 1.0)
    mean = tf.reduce_sum(pixels, axis=0) / count
    return mean, tf.sqrt(tf.reduce_sum((pixels - mean) ** 2, axis=0) / count)


def _to_density(image: tf.Tensor) -> tf.Tensor:
    return -tf.math.log((image + 1.0) / 256.0)


def _is_stained(density: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(density, axis=-1) > _LEAST_DENSITY


def _estimate_stains(density: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Stain colours [2, 3] (basic dye first) and strengths [2] of stained pixels' densities [N, 3]."""
    # Directions of the second moments about the origin, as the plane of the stains goes through it. In
    # float64, and as a sum of products (see mix_channels).
    exact = tf.cast(density, tf.float64)
    moments = tf.reduce_mean(exact[:, :, None] * exact[:, None, :], axis=0)
    _, directions = tf.linalg.eigh(moments)
    main, second = directions[:, 2], directions[:, 1]
    main *= tf.where(tf.reduce_sum(main) < 0.0, tf.constant(-1.0, tf.float64), 1.0)
    along = tf.reduce_sum(exact * main, axis=1)
    angle = tf.sort(tf.atan2(tf.reduce_sum(exact * second, axis=1), along))
    ends = [_percentile_of_sorted(angle, percent) for percent in _ANGLE_PERCENT]
    one, other = (tf.cos(end) * main + tf.sin(end) * second for end in ends)
    basic_first = tf.cond(one[0] > other[0], lambda: [one, other], lambda: [other, one])
    stains = tf.cast(tf.stack(basic_first), tf.float32)
    amounts = tf.sort(mix_channels(density, _unmixing(stains)), axis=0)
    return stains, _percentile_of_sorted(amounts, _STRENGTH_PERCENT)


def _unmixing(stains: tf.Tensor) -> tf.Tensor:
    """The matrix [3, 2] that takes densities to least-squares amounts of two stains [2, 3]."""
    one, other = stains[0], stains[1]
    a, b, c = tf.reduce_sum(one * one), tf.reduce_sum(one * other), tf.reduce_sum(other * other)
    to_one, to_other = (c * one - b * other), (a * other - b * one)
    return tf.math.divide_no_nan(tf.stack([to_one, to_other], axis=1), a * c - b * b)


def _percentile_of_sorted(values: tf.Tensor, percent: float) -> tf.Tensor:
    """The percentile along the first axis of sorted values, interpolated linearly."""
    position = (percent / 100.0) * tf.cast(tf.shape(values)[0] - 1, values.dtype)
    below = tf.floor(position)
    index = tf.cast(below, tf.int32)
    low = values[index]
    high = values[tf.minimum(index + 1, tf.shape(values)[0] - 1)]
    return low + (position - below) * (high - low)
