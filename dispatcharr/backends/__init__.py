"""Station 5: places that run kernels. One file each, found by name unless it begins with ``_``."""
