"""Numbers for what the eye sees: one metric per file, and `measure`, which takes them all in one pass."""

from kinopaint.metrics.catalogue import CATALOGUE as CATALOGUE
from kinopaint.metrics.catalogue import SAME_AS as SAME_AS
from kinopaint.metrics.catalogue import About as About
