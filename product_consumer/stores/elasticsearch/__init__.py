"""Products in Elasticsearch, found by the words of their names.

- ``store.py``: the ``KeywordStore``;
- ``index.py``: settings, mapping and set-up of the index behind the alias;
- ``errors.py``: what a failed call or a refused row means.
"""
