"""Export formats: a release written as other tools expect it."""
