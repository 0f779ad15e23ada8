"""``python -m fastbp`` is the command ``fastbp``."""

import sys

from fastbp.cli import main

sys.exit(main())
