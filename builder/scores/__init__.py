"""Scores of captions: grounding, discrimination, leakage, repeats; control captions."""
