"""``make demo``: the whole job between local servers, nothing downloaded.

opening             the demo, or what has to be installed for it
run                 the ordinary worker between servers, a producer and a summary
servers             an SQS server and an image host
worker_settings     settings that point a worker at them
product_messages    catalogue -> messages, some of them with earlier prices
orders              some orders, a few of them bad
feed                sends the messages of a queue a few at a time, and counts what is left
progress            a bar on a terminal, a line now and then elsewhere
results             what the run left in ledger and stores
summary             what is printed of it
tiny_model          the small OpenCLIP model that ships with the package
streams             make demo-streams: stages on a RabbitMQ of their own
drawings            the sample catalogue, drawn
training            how the tiny model was made
"""
