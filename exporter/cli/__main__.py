"""``python -m exporter.cli``."""

from __future__ import annotations

import sys

from exporter.cli.main import main

sys.exit(main())
