"""Station 2: pending expressions. Nodes never change; only their value is filled in, once."""
