"""Station 5: places that run kernels. One file each, found by name; files with an underscore are not backends."""
