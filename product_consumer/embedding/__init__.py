"""Pixels and token ids -> embeddings of unit length; one model, one thread.

embedder          the front: tokenise, prepare, embed
tokenizer         text -> token ids
preprocessing     RGB pixels -> pixels of the model's size
batcher           one thread; all items that wait when the device is free are the next batch
forward_pass      one batch through the model; device errors told apart
cuda              forward passes queued on CUDA, replayed from graphs
trial             items that every working model embeds, and what is wrong where one does not
towers            the model's image and text towers as functions of one tensor
loading           a loaded model, with weights that are known to belong to it
spec              which model the settings ask for
weights           finds the weights and loads every one of them
half_precision    a cheaper model for accelerators, same embeddings
"""
