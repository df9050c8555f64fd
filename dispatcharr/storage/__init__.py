"""Station 1: memory. Who owns it, who else can see it, which pending work still reads it."""
