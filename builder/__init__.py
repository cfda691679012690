"""aras: make, judge and publish land-cover vision and language datasets."""

__version__ = "0.1.0"
