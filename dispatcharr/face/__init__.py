"""Station 9: what the user touches."""
