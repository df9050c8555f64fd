"""What a backend looks like whose own library is not installed properly."""

raise ImportError("libabacus.so: cannot open shared object file")
