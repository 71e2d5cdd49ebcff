"""What the five papers printed, cell by cell: one YAML file a paper, and their reader."""
