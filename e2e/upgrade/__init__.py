"""The operator is replaced by another version, and back, while workers drain, change their role and are rolled out.

The earlier version is a revision of this repository: its own chart, and an image built from its own files.
"""
