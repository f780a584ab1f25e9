"""Pixels and token ids -> embeddings of unit length; one model, one thread.

embedder          the whole: tokenise, prepare, embed
tokenizer         text -> token ids
preprocessing     RGB pixels -> pixels of the model's size
batcher           one thread; what waits when the device is free is the next batch
forward_pass      one batch through the model; device errors told apart
cuda              forward passes queued on CUDA, replayed from graphs
towers            the model's image and text halves as functions of one tensor
loading           a model with weights that are known to belong to it
spec              which model the settings ask for
weights           where its weights are, and every one of them filled in
half_precision    a cheaper model for accelerators, same embeddings
"""
