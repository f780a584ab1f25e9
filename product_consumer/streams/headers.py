"""The headers that our producers add, and that nobody needs."""

APP_ID = "product-consumer"
FILE_NAME = "filename"
"""Text: the name of the file that a body came from, without its folder."""
IMAGE_SIZE = "image_size"
"""A list of numbers: height, width and channels of a picture."""
WORD = "word"
"""A number: the position of a word in its file, from 1."""
