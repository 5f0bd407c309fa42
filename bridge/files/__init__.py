"""What is read from and written to disk: measured before it is read, whole or not at all."""
