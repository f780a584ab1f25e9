"""Anomalies in a stream of records: what does not fit what was there before.

detector     scores records, decides which are anomalies, and learns from the others
verdict      what the detector says of one record
features     record -> numbers, in columns
scoring      what it scores with: relations between features, or how rare values are
scores       the threshold, from the latest scores
state        what a detector has learnt, as a file of numbers
state_files  which file belongs to which queue and process
keeper       writes the file while records come in
planted      records with anomalies whose places are known, for measurements
stage        messages -> verdicts -> results and alerts
options      the options of a detector
opening      options -> a detector that goes on where it stopped
"""
