"""Labels for the stage ``classify``: from a file to one embedding each, and the scores by them.

reading     the file of labels: one per line, or JSON with prompts
prompts     the prompts of a label that brings none
embedding   prompts -> one embedding per label
kept        embeddings of labels in a file, so that a start need not make them again
scoring     an embedding -> the score of each label
"""
