"""The report on a dataset: every score per stream, class and kind, as figures and as a page."""
