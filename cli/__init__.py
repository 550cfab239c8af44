"""WHERE the rooms meet: one file per command, options as typed dataclasses."""
