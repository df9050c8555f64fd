"""Station 8: a plan, its prices and what happened, as data; text, HTML and JSON are made of it."""
