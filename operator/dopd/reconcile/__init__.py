"""The operator itself: watch, then bring one resource at a time a step closer to its spec."""
