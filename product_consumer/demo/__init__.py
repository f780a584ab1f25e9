"""What ``make demo`` needs and a real deployment does not: nothing in it is downloaded.

run.py                the demo: an ordinary worker between local servers, a producer and a summary
servers.py            an SQS server and an image host on this machine
worker_settings.py    settings that point a worker at them and at embedded stores
product_messages.py   a catalogue as a crawler reports it, with some earlier prices
orders.py             orders, a few of them bad
feed.py               one queue: its messages are sent a few at a time and watched
progress.py           a bar on a terminal, log lines anywhere else
results.py            what the worker has left in ledger and stores
summary.py            what the run came to: counts, searches, one price history
tiny_model.py         the small OpenCLIP model that ships with the package, in model/
drawings/             the sample catalogue and its drawn images
training/             the script that made the model
"""
