"""What a conversion says of itself: plain data, as text, JSON and HTML."""
