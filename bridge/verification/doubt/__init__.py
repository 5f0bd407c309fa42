"""Where something departs: whether the source itself stands by what it says there."""
