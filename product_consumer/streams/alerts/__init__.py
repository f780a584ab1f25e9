"""Alerts: anomalies that are told at once, beside the results.

alert       one alert, and the contract of the places that alerts go to
targets     what ``--alerts`` names: a queue, a webhook or the log
log_lines   alerts as lines of the log
webhook     one request to a webhook, within the rules for addresses
background  a bounded queue and a thread: retries, and never makes scoring wait
opening     target and settings -> the place
"""
