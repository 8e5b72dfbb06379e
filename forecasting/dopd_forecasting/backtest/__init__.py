"""Replays a recorded series and measures what each model would have forecast; the only part of the library that does I/O."""
