"""Publishing: a checked release to a Hugging Face Hub or to Zenodo, completely and only once."""
