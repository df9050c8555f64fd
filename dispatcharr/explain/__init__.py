"""Station 8: a plan and its prices, and what happened, as data; then as text, HTML, JSON and a trace."""
