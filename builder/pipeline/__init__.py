"""From dataset.toml to the ordered steps that build a dataset."""
