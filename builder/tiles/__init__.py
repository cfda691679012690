"""Real rows: cut, split, and the named subsets of them."""
