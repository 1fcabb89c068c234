import sys

from kinopaint.cli import main

sys.exit(main())
