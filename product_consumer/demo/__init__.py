"""What ``make demo`` needs and a real deployment does not: nothing in it is downloaded.

catalogue.py      a sample catalogue: names, prices and drawn pictures
drawing.py        the pictures
shapes.py         one function per kind of product
pen.py            outlines, patterns and shading
wording.py        what each kind is called
tiny_model.py     the small OpenCLIP model that ships with the package
train_model.py    the script that made it
captions.py       what it was told about its pictures
evaluation.py     how well words find the right products with it
"""
