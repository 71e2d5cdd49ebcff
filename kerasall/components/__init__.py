"""TFX's steps, one file each: the only layer that knows artifacts (files) and functions (values)."""
