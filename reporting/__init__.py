"""From folders of runs to tables, plots and an HTML page. report.py calls this package."""
