"""Judging tiles: a subject and its stage in one file, from pixels to memorised training data."""
