"""What the message bodies of all streams have in common.

envelopes       body -> the JSON object inside it; SNS, EventBridge and CloudEvents unwrapped
cloud_events    CloudEvents: told from messages, and what they carry
fields          version, currency, time zone and hash, the same in every stream
parser          the base of the parsers
prices          price as shops write it -> minor units and currency
price_numbers   the digits of a price -> its amount
price_words     what stands beside the digits: marks, labels, footnotes
currencies      which currency a price is in, by the order of evidence
currency_marks  signs, words and codes -> the currencies they may mean
cldr            how currencies are written in all places of the world
times           event times of producers -> UTC
time_texts      the rarer forms of times as text
"""
