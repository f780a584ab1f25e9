"""The order stream: the ledger counts every order once, Redis serves the totals.

pipeline         validate -> record -> write to Redis
parser           message body -> Order, or a named reason
cleaning         ids, words and amounts as producers write them
models           Order and its totals; money in minor units
ledger           SQL: every order once, with totals per user, day and currency
statistics       queries on the ledger
tables           the ledger's tables
redis            the totals in Redis, for dashboards
components       settings -> the components above
generator        realistic orders from a seed

Nothing here loads a model, Milvus or Elasticsearch.
"""
