"""What the dry run at full size took, in words and a table."""

from results.full_size import section, table

__all__ = ["section", "table"]
