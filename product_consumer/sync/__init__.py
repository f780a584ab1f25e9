"""Keeps the stores equal to the ledger.

writer     writes current rows, again where they were overtaken
sweeper    reads back what was written a while ago, repairs what differs
rebuild    fills a store from the ledger
"""
