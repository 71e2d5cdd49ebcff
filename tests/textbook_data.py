"""Published experiments, each checked in the tests against other numbers its source prints."""

from __future__ import annotations

import numpy as np

from kerasall.taguchi.arrays import load_array

# Chen et al., BMC Bioinformatics 22(S5):615 (2021): L9, optimizer (adam twice), batch, epochs, rate.
RESNET_ACCURACY = np.array(
    [
        [0.8045, 0.8066, 0.7927],
        [0.7916, 0.7943, 0.8050],
        [0.7477, 0.7483, 0.7483],
        [0.6508, 0.6508, 0.6508],
        [0.7783, 0.7809, 0.7788],
        [0.6909, 0.6904, 0.6888],
        [0.8056, 0.8013, 0.7965],
        [0.7268, 0.7327, 0.7338],
        [0.7954, 0.7868, 0.7563],
    ]
)
"""Table 5, preliminary test set, three runs of each row."""
RESNET_ETA = np.array([14.0346, 13.8487, 11.9754, 9.1385, 13.1253, 10.1737, 14.0288, 11.4082, 13.1318])
"""Table 5, the printed ratios."""
RESNET_CONFIRMATION = [0.8249, 0.8184, 0.8452, 0.8125, 0.8061, 0.8281, 0.8307, 0.8002, 0.8216]
"""Table 7."""
OPTIMIZERS = ["adam", "sgdm", "adam"]


def resnet_table() -> dict[str, np.ndarray]:
    """Table 2: L9(3^4)."""
    return array_table("L9(3^4)", "ABCD")


def array_table(array: str, names: str) -> dict[str, np.ndarray]:
    """Factors in the first columns of an array; a blank leaves its column spare."""
    return {
        name: column for name, column in zip(names, load_array(array).table.T, strict=False) if name != " "
    }


def factorial_table(names: str) -> dict[str, np.ndarray]:
    """Two-level factors in standard (Yates) order."""
    run = np.arange(2 ** len(names))
    return {name: 1 + (run >> index & 1) for index, name in enumerate(names)}


# M. S. Phadke, Quality Engineering Using Robust Design (1989), section 3: simplified polysilicon
# deposition in L9: temperature, pressure, settling time, cleaning.
PHADKE_L9_ETA = np.array([-20.0, -10, -30, -25, -45, -65, -45, -65, -70])

# The same book, chapter 4: polysilicon surface defects, L18 with columns 1 and 7 spare:
# temperature, pressure, nitrogen, silane, settling time, cleaning.
PHADKE_L18_COLUMNS = " ABCDE F"
PHADKE_L18_ETA = np.array(
    [
        *[0.51, -37.30, -45.17, -25.76, -62.54, -62.23, -59.88, -71.69, -68.15],
        *[-3.47, -5.08, -54.85, -49.38, -36.54, -64.18, -27.31, -71.51, -72.00],
    ]
)
PHADKE_L18_MEANS = {
    "A": [-24.23, -50.10, -61.76],
    "B": [-27.55, -47.44, -61.10],
    "C": [-39.03, -55.99, -41.07],
    "D": [-39.20, -46.85, -50.04],
    "E": [-51.52, -40.54, -44.03],
    "F": [-45.56, -41.58, -48.95],
}
"""The book's level averages."""

# M. Hamada and C. F. J. Wu, Analysis of designed experiments with complex aliasing, Journal of
# Quality Technology 24:130 (1992): blood glucose readings, L18(2^1 3^7), columns A G B C D E F H.
GLUCOSE_COLUMNS = "AGBCDEFH"
GLUCOSE = np.array(
    [
        *[97.94, 83.40, 95.88, 88.86, 106.58, 89.57, 91.98, 98.41, 87.56],
        *[88.11, 83.81, 98.27, 115.52, 94.89, 94.70, 121.62, 93.86, 96.10],
    ]
)

# D. C. Montgomery, Design and Analysis of Experiments: pilot plant filtration rate, 2^4.
FILTRATION = np.array([45.0, 71, 48, 65, 68, 60, 80, 65, 43, 100, 45, 104, 75, 86, 70, 96])
FILTRATION_EFFECTS = {"A": 21.625, "B": 3.125, "C": 9.875, "D": 14.625}

# G. E. P. Box, W. G. Hunter and J. S. Hunter, Statistics for Experimenters (1978): reactor, 2^5.
REACTOR = np.array(
    [
        *[61.0, 53, 63, 61, 53, 56, 54, 61, 69, 61, 94, 93, 66, 60, 95, 98],
        *[56, 63, 70, 65, 59, 55, 67, 65, 44, 45, 78, 77, 49, 42, 81, 82],
    ]
)
REACTOR_EFFECTS = {"A": 1.375, "B": 19.5, "C": 0.625, "D": 10.75, "E": 6.25}
"""Sizes of the printed main effects."""

# D. M. Byrne and S. Taguchi, The Taguchi approach to parameter design, Quality Progress 20(12):19 (1987):
# pull-off force of a connector, L9 of interference, wall thickness, insertion depth and adhesive, under
# the eight noise conditions of an L8.
CONNECTOR = np.array(
    [
        [15.6, 9.5, 16.9, 19.9, 19.6, 19.6, 20.0, 19.1],
        [15.0, 16.2, 19.4, 19.6, 19.7, 19.8, 24.2, 21.9],
        [16.3, 16.7, 19.1, 15.6, 22.6, 18.2, 23.3, 20.4],
        [18.3, 17.4, 18.9, 18.6, 21.0, 18.9, 23.2, 24.7],
        [19.7, 18.6, 19.4, 25.1, 25.6, 21.4, 27.5, 25.3],
        [16.2, 16.3, 20.0, 19.8, 14.7, 19.6, 22.5, 24.7],
        [16.4, 19.1, 18.4, 23.6, 16.8, 18.6, 24.3, 21.6],
        [14.2, 15.6, 15.1, 16.8, 17.8, 19.6, 23.2, 24.4],
        [16.1, 19.9, 19.3, 17.3, 23.1, 22.7, 22.6, 28.6],
    ]
)
CONNECTOR_ETA = [24.025, 25.522, 25.335, 25.904, 26.908, 25.326, 25.711, 24.832, 26.152]
"""Printed ratios, larger the better."""
CONNECTOR_MEANS = [17.525, 19.475, 19.025, 20.125, 22.825, 19.225, 19.85, 18.3375, 21.2]
"""Printed means."""

CONNECTOR_NOISE = {"E": 0, "F": 1, "G": 3}
"""Conditioning time, temperature and humidity: places of their columns in the L8 whose rows are the conditions."""

# J. J. Pignatiello and J. S. Ramberg, Journal of Quality Technology 17:198 (1985), as printed in D. C. Montgomery, Design
# and Analysis of Experiments, table 12.1: free height of a leaf spring, a half fraction of four settings (A furnace
# temperature, B heating time, C transfer time, D = ABC hold down time), three times at each temperature of the quench oil.
SPRING = np.array(
    [
        [[7.78, 7.78, 7.81], [7.50, 7.25, 7.12]],
        [[8.15, 8.18, 7.88], [7.88, 7.88, 7.44]],
        [[7.50, 7.56, 7.50], [7.50, 7.56, 7.50]],
        [[7.59, 7.56, 7.75], [7.63, 7.75, 7.56]],
        [[7.54, 8.00, 7.88], [7.32, 7.44, 7.44]],
        [[7.69, 8.09, 8.06], [7.56, 7.69, 7.62]],
        [[7.56, 7.52, 7.44], [7.18, 7.18, 7.25]],
        [[7.56, 7.81, 7.69], [7.81, 7.50, 7.59]],
    ]
)
"""[rows in Yates' order of A, B, C, oil (cold, hot), repeats]."""
SPRING_MEANS = [7.54, 7.90, 7.52, 7.64, 7.60, 7.79, 7.36, 7.66]
SPRING_VARIANCES = [0.090, 0.071, 0.001, 0.008, 0.074, 0.053, 0.030, 0.017]
SPRING_MEAN_MODEL = {"A": 0.12, "B": -0.081, "D": 0.044}
"""Printed model of the mean, 7.63 + 0.12 A - 0.081 B + 0.044 D in units of -1 and 1; that of ln s2 is -3.74 - 1.09 B."""

# G. Taguchi and Y. Wu, Introduction to Off-line Quality Control (1979): tiles of the Ina company out of
# tolerance, in percent, L8 of seven factors.
TILES = np.array([16.0, 17, 12, 6, 6, 68, 42, 26])
TILE_MEANS = {
    "A": [12.75, 35.5],
    "B": [26.75, 21.5],
    "C": [25.25, 23.0],
    "D": [19.0, 29.25],
    "E": [30.5, 17.75],
    "F": [13.5, 34.75],
    "G": [33.0, 15.25],
}
"""Averages at each level; the fewest defectives are at A1 B2 C2 D1 E2 F1 G2."""

# D. C. Montgomery, Design and Analysis of Experiments, section on the split plot: tensile strength of paper. On each of three
# days a batch of pulp was made by each of three methods, and four samples of every batch cooked at a temperature each.
PULP = np.array(
    [
        [[30, 34, 29], [28, 31, 31], [31, 35, 32]],
        [[35, 41, 26], [32, 36, 30], [37, 40, 34]],
        [[37, 38, 33], [40, 42, 32], [41, 39, 39]],
        [[36, 42, 36], [41, 40, 40], [40, 44, 45]],
    ]
)
"""[temperatures 200, 225, 250, 275, days, methods]."""
