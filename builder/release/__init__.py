"""Releases: package, card, checks, diffs and publishing."""
