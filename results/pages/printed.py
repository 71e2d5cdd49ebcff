"""Two printed scores, in words and a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.pages import tabulate, with_ends


def section(document: dict) -> list[str]:
    """The section of the results page, written from printed.json alone."""
    lines = ["## Two printed scores"]
    if batch := document.get("batch"):
        lines += ["", *_describe_batch(batch)]
    if vote := document.get("vote"):
        lines += ["", _describe_vote(vote)]
    return [*lines, "", f"`{document['command']}`"]


def _describe_batch(batch: Mapping[str, Any]) -> list[str]:
    printed = batch["printed"]
    rows = [
        (
            told["title"], with_ends({"value": told["accuracy"], "low": told["interval"][0], "high": told["interval"][1]}),
            f"{told['low_5']:.3f} to {told['high_95']:.3f}", f"{told['lowest']:.3f}, {told['highest']:.3f}",
            f"{100 * told['reach_printed']:.1f}%",
        )
        for told in batch["protocols"].values()
    ]  # fmt: skip
    heads = (
        "folds over",
        "accuracy on all images",
        "5% to 95% of the batches",
        "lowest, highest",
        "reach .9687",
    )
    return [
        f"**One batch of {batch['batch']}.** The .9687 of Samyuktha et al. is {printed['right']} of {batch['batch']} images: Wilson's "
        f"interval is {printed['low']:.3f} to {printed['high']:.3f}, if its images were independent. Of {batch['batches']:,} such batches of the "
        f"linear head's out-of-fold answers (as above, {_count_draws(batch)} draws of the folds) so many reach it:",
        "",
        *tabulate(heads, rows),
    ]


def _count_draws(batch: Mapping[str, Any]) -> int:
    return max(len(told["splits"]) for told in batch["protocols"].values())


def _describe_vote(vote: Mapping[str, Any]) -> str:
    worst = ", ".join(f"{name} {value:.2f}" for name, value in vote["lowest_patients"].items())
    return (
        f"**A vote and its patients.** Chen et al. print {vote['accuracy']:.4f} for nine networks on {vote['images']:,} images and list the "
        f"{vote['listed_as_wrong']} wrong ones (Table 17). With the {vote['groups']} patients of the public label table its 95% interval is "
        f"{vote['low']:.3f} to {vote['high']:.3f}; over single images it would be {vote['low_by_image']:.3f} to {vote['high_by_image']:.3f}. Its mean over "
        f"patients is {vote['mean_over_patients']:.3f}; the lowest are {worst}. The same images chose the hyperparameters."
    )
