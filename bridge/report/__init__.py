"""What a conversion says of itself: plain data, as text, JSON and HTML."""

SUFFIXES = (".html", ".json", ".txt")  # of the files that a report is written to
