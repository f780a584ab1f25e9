"""One step of a model pipeline: messages of a queue -> results in the next queue.

base         what every stage does with its results: publish, record, answer, acknowledge
names        the stages that there are
item         one message on its way, and its result
outlets      the queues that results go to
contents     what a message is: picture, text, record or features
pixels       raw pixels and the header that tells their shape
pictures     picture files and raw pixels -> RGB, within limits
guard        finds the message that kills its process
preprocess   the stage that makes what a model takes
features     the stage that makes vectors
components   builds a stage from settings and options, and runs it
classify     the stage that finds labels
"""
