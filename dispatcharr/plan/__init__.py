"""Station 3: nodes become kernels."""
