"""The layout in which ARAS400k was published: its names, archives, captions.csv and masks."""
