"""One file per command, options as typed dataclasses."""
