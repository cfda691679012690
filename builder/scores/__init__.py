"""Scores of captions: grounding, leakage, redundancy, near-duplicates; control captions."""
