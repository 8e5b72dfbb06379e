"""What a release is made of, and the commands that make it: `python -m release STEP`, or `make release-STEP`.

The version is `dopd.__version__` and stands nowhere else by hand (`python -m release version 0.2.0` changes it).
"""
