"""Image URL -> bytes -> RGB pixels, within limits: every byte is taken to be hostile.

fetcher          downloads many images at once
download         one download, through redirects
url_rules        which URLs may be asked
address_rules    which network addresses may be connected to
response         one HTTP response, taken in within limits, then judged: here a 404 is decided
decoder          bytes -> RGB pixels
jpeg             the quick way for JPEGs
jpeg_damage      JPEGs that libjpeg complains about: whole or not
png              PNGs with damaged metadata or a transparent colour
"""
