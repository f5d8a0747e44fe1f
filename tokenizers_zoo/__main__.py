"""`python -m tokenizers_zoo` is the command `tokenizers-zoo`."""

import sys

from .cli import main

sys.exit(main())
