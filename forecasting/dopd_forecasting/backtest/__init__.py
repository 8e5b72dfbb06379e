"""Measures on a recorded series what each model would have forecast; the only part of the library with I/O."""
