"""Station 4: how the host runs a kernel: blocks of NumPy calls, and threads to share them."""
