"""Synthetic rows: the balance plan, layouts, and the tiles drawn on them."""
