"""The engine: components, artifacts, caching, resume, lineage. Knows nothing of leukaemia or images."""
