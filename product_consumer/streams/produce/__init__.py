"""Producers: programs that send rows of a table, pictures and texts.

opening    the settings of a producer -> its process, from the start to the exit code
sending    sends any number of messages, over outages
tabular    rows of a CSV file -> records
files      files of a directory -> pictures, words or whole texts
"""
