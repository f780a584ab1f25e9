"""SQL: the newest state of every product, its history, and what is due for a check.

ledger            what others call: look up, record, read rows and history
queries           the longer questions to its tables
recording         compare and set by version, history, pending check: one transaction
upserts           which columns a message replaces, keeps or fills in
rows              table rows <-> values
tables            the tables
pending_checks    products that were written and not yet verified in the stores
scan              the ledger from end to end, in pages of ids
crash_guard       finds the message that kills its process
in_progress       messages in work, so that a crash leaves its suspects behind
process_names     names of processes, from which others tell whether one has ended
"""
