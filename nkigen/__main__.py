"""`python -m nkigen`: see nkigen.cli."""

import sys

from nkigen.cli import main

sys.exit(main())
