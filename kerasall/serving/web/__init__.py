"""Answers over HTTP: a page for people, REST for programs, and the lock on both.

Knows a pushed SavedModel and nothing of how it was trained. Needs the extra ``kerasall[web]``.
"""
