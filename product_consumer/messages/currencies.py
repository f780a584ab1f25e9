"""Which currency a price is in: the evidence, from the strongest to the weakest.

1. A mark in the price that means one currency: US$, €, zł.
2. The currency field of the message.
3. The default currency, where it is written with the mark of the price.
4. The usual meaning of that mark: $ is USD.

A price without any mark is in the currency of its field, else in the default currency.
"""

import html
from collections.abc import Sequence

from product_consumer.errors import InvalidMessage
from product_consumer.messages.currency_marks import Mark, find_mark, known_mark
from product_consumer.text import check_text, excerpt, plain_digits

MAX_FIELD_CHARACTERS = 100


def choose_currency(marks: Sequence[Mark], field: Mark | None, default_currency: str) -> str:
    """Return the currency that the marks of a price, its field and the default agree on.

    Raises ``InvalidMessage``: ``currency_mismatch`` when marks and field exclude each other,
    ``currency_unknown`` when nothing names a currency.
    """
    named = [*marks, field] if field else [*marks]
    if not named:
        return _default(default_currency)
    possible = frozenset.intersection(*(mark.codes for mark in named))
    if not possible:
        readings = " against ".join("/".join(sorted(mark.codes)[:4]) for mark in named)
        raise InvalidMessage(
            "currency_mismatch", f"the price and its currency disagree: {readings}"
        )
    is_certain = field is not None or any(mark.certain for mark in named)
    if len(possible) == 1 and is_certain:
        return next(iter(possible))
    for code in (default_currency, *(mark.usual for mark in named)):
        if code in possible and code:
            return code
    raise InvalidMessage("currency_unknown", f"could be any of {', '.join(sorted(possible))}")


def read_field(field: object) -> Mark | None:
    """Return what a currency field means; None where it is absent.

    Raises ``InvalidMessage("currency_unknown")`` for anything but a mark of a currency.
    """
    if field is None or field == "":
        return None
    mark = None
    if isinstance(field, str) and len(field) <= MAX_FIELD_CHARACTERS:
        text = plain_digits(html.unescape(check_text(field, "currency")))
        mark = known_mark(text) or find_mark(text)
    if mark is None:
        raise InvalidMessage("currency_unknown", f"currency is {excerpt(field)}")
    return mark


def _default(default_currency: str) -> str:
    if not default_currency:
        raise InvalidMessage("currency_unknown", "neither the price nor a currency field names one")
    return default_currency
