"""Amounts of money: integer minor units and an ISO 4217 code; major units for people.

Codes and minor units are ISO 4217's own table (package ``iso4217``), because the ledger's contract
is ISO minor units. How many decimals people write is another matter: ``messages/cldr.py``.
"""

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from iso4217 import Currency

from product_consumer.errors import InvalidMessage
from product_consumer.text import excerpt

# Gold, test and "no currency" codes have no minor unit and price nothing.
EXPONENTS: Final = {c.value: c.exponent for c in Currency if c.exponent is not None}
"""How many decimals each currency has, by its code."""
# A sum of doubles is off by a few units in the 16th digit: 3 * 19.99 is 59.97 or
# 59.96999999999999. A greater difference was meant.
_DOUBLE_NOISE: Final = Decimal("1e-14")
# Every decimal of so many digits survives in a double, so noise shows in later ones only.
_DIGITS_OF_A_DOUBLE: Final = 15


def currency_exponent(code: str) -> int:
    """Return how many decimals the currency has (ISO 4217 minor unit: VND 0, USD 2, KWD 3).

    Raises ``InvalidMessage("currency_unknown")`` for anything but a current code of a currency.
    """
    exponent = EXPONENTS.get(code)
    if exponent is None:
        raise InvalidMessage("currency_unknown", f"{excerpt(code)} is not a currency of ISO 4217")
    return exponent


def without_noise(amount: Decimal, exponent: int) -> Decimal:
    """Return an amount without the rounding noise of doubles: 24.990000000000002 is 24.99.

    ``exponent``: how many decimals the amount has. Any other amount is returned as it is.
    """
    is_noisy = len(amount.as_tuple().digits) > _DIGITS_OF_A_DOUBLE
    if not is_noisy or not amount or not -20 < amount.adjusted() < 20:
        return amount
    rounded = amount.quantize(Decimal(1).scaleb(-exponent), rounding=ROUND_HALF_EVEN)
    return rounded if abs(rounded - amount) <= abs(amount) * _DOUBLE_NOISE else amount


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
