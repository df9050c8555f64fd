"""Station 1: the op table. All that is known of an operation stands in one row."""
