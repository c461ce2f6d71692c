"""Turns folders of runs into tables, plots and an HTML page. report.py calls this package."""
