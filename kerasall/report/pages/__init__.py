"""Pages: each hands its numbers and pictures to the templates of its sections."""
