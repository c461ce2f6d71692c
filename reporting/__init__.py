"""From folders of runs to tables and plots: report.py and parse_test_res.py are on top of this."""
