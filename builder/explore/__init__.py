"""A release to look through: a browser page of plain files, its index, its server, and review."""
