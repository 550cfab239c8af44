"""`python -m longrope.cli` is the `longrope` command."""

import sys

from .main import main

sys.exit(main())
