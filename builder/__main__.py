"""``python -m builder`` is ``aras``."""

from builder.cli import main

main()
