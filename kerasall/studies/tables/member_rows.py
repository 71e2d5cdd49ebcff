"""The rows of a printed table that are of members, and the members of a run that no row is of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kerasall.published.papers import Paper, Table
from kerasall.studies.finished_run import Run
from kerasall.studies.tables.scored import read_scored

OF_MEMBER = re.compile(r"((?:^|(?<=/))member/)([^/]+)")
"""A member in a key: what stands before its name, and its name."""


def list_member_rows(table: Table) -> dict[str, dict[str, list[int]]]:
    """What stands before the member in the keys of rows (such as a size) -> member -> numbers of its rows."""
    found: dict[str, dict[str, list[int]]] = {}
    for number, row in enumerate(table.rows):
        if member := OF_MEMBER.search(row.ours):
            before = row.ours[: member.start()]
            found.setdefault(before, {}).setdefault(member[2], []).append(number)
    return found


def find_levels(table: Table, members: Mapping[str, Sequence[int]]) -> list[int]:
    """Which of the names before a row tell the member: each has one there, and no two have the same."""
    found = []
    for level in range(len(table.heads)):
        names = [{table.rows[number].name[level] for number in rows} for rows in members.values()]
        if len(set().union(*names)) == len(members) and all(len(each) == 1 for each in names):
            found.append(level)
    return found or [0]


def find_unprinted(run: Run, paper: Paper) -> list[str]:
    """Members of a run that no table of the paper has a row or a column of."""
    scored = read_scored(run)
    keys = {
        table.key(row, column) for table in paper.tables for row in table.rows for column in table.columns
    }
    words = {found[2] for key in keys if (found := OF_MEMBER.search(key))}
    printed = {scored.find_member(word) for word in words}
    return [name for name in scored.members if name not in printed] if scored.made else []


def most_members(paper: Paper) -> int:
    """How many members the paper's largest table of members has."""
    return max(
        (len(members) for table in paper.tables for members in list_member_rows(table).values()), default=0
    )
