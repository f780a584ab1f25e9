"""What runs in the I/O thread: connections, the channel that receives, the channel that publishes.

connection        the thread, and connections that open again for ever
client            pika, as it is used here; the only file that imports it
answers           what the I/O thread answers to other threads
lenient_headers   headers that pika cannot read
deliveries        what a channel has delivered: the buffer, and leases
consuming         the channel that receives and settles
publishing        the channel that publishes with confirmations
errors            what pika and the server say, as our errors
"""
