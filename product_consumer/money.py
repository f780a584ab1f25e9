"""Amounts of money: integer minor units and an ISO 4217 code; major units for people.

Codes and minor units are ISO 4217's own table (package ``iso4217``), because the ledger's contract
is ISO minor units; CLDR's digits (Babel) describe cash and display and differ for some currencies.
"""

from decimal import Decimal
from typing import Final

from iso4217 import Currency

from product_consumer.errors import InvalidMessage
from product_consumer.text import excerpt

# Gold, test and "no currency" codes have no minor unit and price nothing.
EXPONENTS: Final = {c.value: c.exponent for c in Currency if c.exponent is not None}
"""How many decimals each currency has, by its code."""


def currency_exponent(code: str) -> int:
    """Return how many decimals the currency has (ISO 4217 minor unit: VND 0, USD 2, KWD 3).

    Raises ``InvalidMessage("currency_unknown")`` for anything but a current code of a currency.
    """
    exponent = EXPONENTS.get(code)
    if exponent is None:
        raise InvalidMessage("currency_unknown", f"{excerpt(code)} is not a currency of ISO 4217")
    return exponent


def to_major(minor: int, currency: str) -> Decimal:
    """Return the price in major units: 129900 USD is 1299.00, 1299000 VND is 1299000."""
    # A row may outlive its currency in ISO 4217; nearly all withdrawn currencies had two decimals.
    return Decimal(minor).scaleb(-EXPONENTS.get(currency, 2))


def price_as_double(minor: int | None, currency: str | None) -> float | None:
    """Return a product's price in major units as stores hold it; None for an unknown price."""
    if minor is None or currency is None:
        return None
    return float(to_major(minor, currency))


def money_text(minor: int, currency: str) -> str:
    """Return a decimal with the currency's own number of decimals: ``99.99`` USD, ``99`` VND."""
    return f"{to_major(minor, currency):f}"


def format_price(minor: int, currency: str) -> str:
    """Return a price for people: ``1,299,000 VND``, ``1,299.00 USD``."""
    return f"{to_major(minor, currency):,f} {currency}"
