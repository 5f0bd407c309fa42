"""What a conversion says of itself: plain data, as text, Markdown, JSON and HTML."""

SUFFIXES = (".html", ".json", ".md", ".txt")  # of the files that a report is written to
