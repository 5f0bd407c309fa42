"""Scripts that measure; each prints ratios of what it ran itself, alternating, in one process."""
