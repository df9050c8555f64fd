"""NumPy's opaque functions by CuPy's: a table, a row for each that gives NumPy's answer."""
