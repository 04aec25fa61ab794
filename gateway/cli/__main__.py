"""``python -m gateway.cli``: the same as ``gridlatch``."""

from gateway.cli import main

raise SystemExit(main())
