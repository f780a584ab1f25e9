"""What the message bodies of all streams have in common.

envelopes     body -> the JSON object inside it; SNS, EventBridge and CloudEvents unwrapped
cloud_events  CloudEvents: told from messages, and what they carry
fields        version, currency, time zone and hash, the same in every stream
parser        the base of the parsers
prices        price as shops write it -> minor units and currency
currencies    symbols and names of currencies, and how each is written
times         event times of producers -> UTC
time_texts    the rarer forms of times as text
"""
