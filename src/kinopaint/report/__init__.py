"""Pages about results: one HTML file each, to be opened in any browser, without a network."""

from kinopaint.report.report import write_report as write_report
