"""A sample catalogue: made-up names and prices, drawn product images.

catalogue    products with names, prices and images
drawing      one image of a kind and a colour
shapes       one function per kind of product
pen          outlines, patterns and shading
wording      what each kind is called
"""
