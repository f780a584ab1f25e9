"""How the demo's tiny model was made.

train_model    trains it on drawn images
captions       the texts it is trained on
evaluation     how well words find the right products with it
"""
