"""Results on real cells: the rows of RESULTS.md, the command that makes them, and what they gave.

``python -m results.make`` runs what is missing or whose inputs changed; ``python -m results.page`` writes RESULTS.md.
Not part of the installed package.
"""
