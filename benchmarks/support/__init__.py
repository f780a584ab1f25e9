"""Code that the benchmarks share.

    canned_http    an SQS, an image host and an Elasticsearch that answer at once; a program
    canned_milvus  a Milvus that confirms every upsert unread; a program
    gil_meter      CPU time and GIL-held time of threads and of steps
    gil_worker     the worker that ``benchmarks.gil`` measures; a program
    measuring      CPU time of processes, medians, tables
    model          a model whose forward pass costs next to nothing
    naive          the simplest worker, to compare with; a program
    photographs    drawn product photographs
    program        how a benchmark starts, reports progress and ends
    servers        queue, image host, databases and workers, in processes of their own

``gilshim.c`` is the C library of ``gil_meter``.
"""
