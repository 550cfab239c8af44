"""Candidate scoring beside the bare forward and the call with labels."""
