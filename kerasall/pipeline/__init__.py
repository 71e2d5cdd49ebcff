"""The engine: components, artifacts, caching, resume, the store of what ran. Knows nothing of leukaemia or images."""
