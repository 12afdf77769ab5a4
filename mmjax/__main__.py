"""`python -m mmjax` is the command `mmjax`."""

import sys

from mmjax.cli import main

sys.exit(main())
