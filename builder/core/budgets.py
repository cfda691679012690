"""Budgets: how much a file, an archive or a server of other people may hold.

A reader compares them with what headers say before it spends memory. What is beyond a budget is a
rejected row or an error that names the figure; nothing is cut short in silence.
"""

PICTURE_BYTES = 4 << 20
"""Bytes of an encoded picture; a tile of 256×256 RGB samples is 0.2 MB unpacked."""
PICTURE_PIXELS = 4096 * 4096
"""Pixels that a picture's header may claim; the largest tile has 512×512."""

TABLE_BYTES = 16 << 30
"""Bytes of a table that is read row by row; captions.csv of 400,240 rows is below 1 GB."""

ZIP_RATIO = 200
"""An entry that claims to unpack to more than this many times its size counts as a bomb."""
ZIP_ANY_RATIO = 1 << 16
"""Entries up to this many bytes may have any ratio."""

PARQUET_GROUP_BYTES = 192 << 20
"""Bytes of a row group unpacked, repeated values counted as often as they stand; 128 tiles of 512
pixels have at most half of them."""
PARQUET_GROUP_ROWS = 1 << 20
"""Rows of a row group; ours have 128 or 4,096."""

REPEATED_BYTES = 1 << 16
"""Bytes of a text that a table may repeat as often as it likes."""

JSON_BYTES = 16 << 20
"""Bytes of a manifest or another JSON document; each may cost 40 times as much in memory."""
CARD_BYTES = 2 << 20
"""Bytes of a card whose YAML is parsed."""
LINE_CHARS = 1 << 20
"""Characters of a line of a text that is searched line by line; a longer one is cut in pieces."""

ANSWER_BYTES = 64 << 20
"""Bytes of a server's answer that is held in memory."""
ANSWER_SECONDS = 120.0
"""Seconds within which the body of such an answer, or the next `LEAST_BYTES` of a file, arrives."""
LEAST_BYTES = 1 << 16
"""Bytes that a connection moves in `ANSWER_SECONDS` of waiting, or it is given up."""
CALL_SECONDS = 900.0
"""Seconds for a call to a service that sends no file, with its answer."""
