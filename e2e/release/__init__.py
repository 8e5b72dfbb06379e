"""What a release is made of, and the commands that make it: `python -m e2e.release STEP`, or `make release-STEP`.

The version is `dopd.__version__` and stands nowhere else by hand (`python -m e2e.release version 0.2.0` changes it).
"""
