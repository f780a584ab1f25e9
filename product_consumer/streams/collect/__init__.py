"""Collectors: programs that save what they receive, then acknowledge it.

opening      the settings of a collector -> its worker process
tabular      the steps of a record: read, write
lines        where records are written: a file, or standard output
files        the steps of a picture or a text: check, save, flush
naming       the names that a message may be saved under
file_names   any text -> a name that is safe on every system
directory    an open directory that files are saved in
aside        a file on its way to its name
"""
