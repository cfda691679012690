"""Publishing: a checked release to a Hugging Face Hub or to Zenodo, never half, never twice."""
