"""Parts of a release: rows chosen by a question, fetched byte by byte, written as a release."""
