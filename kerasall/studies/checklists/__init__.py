"""The checklists of reviewers, filled in from a finished run: what it knows of itself (``facts``), one rule an item
(``rules``, in three files by what they are about), and the page and the Markdown that hold the answers (``filled``).
"""
