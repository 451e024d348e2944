"""`python -m openmfr` is `openmfr`."""

import sys

from openmfr.cli.main import main

sys.exit(main())
