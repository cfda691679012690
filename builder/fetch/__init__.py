"""Fetching: the official Zenodo files and the WorldCover inputs, resumable and verified."""
