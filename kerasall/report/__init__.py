"""Words and pictures alone: reads numbers and records, never steps or models."""
