"""`python -m dopd.cli` is `dopd`."""

import sys

from dopd.cli import main

sys.exit(main())
