"""The words that pages of shops put beside ratings and review counts, as regular expressions.

They are compared with text in lower case. A word that means different numbers in different
languages is not among them: "mil" is a thousand in Spanish and a million in Romanian.
"""

import re
import unicodedata
from decimal import Decimal


def _any_of(*words: str) -> str:
    plain = {unicodedata.normalize("NFKC", word).casefold() for word in words}
    longest_first = sorted(plain, key=lambda word: (-len(word), word))
    return f"(?:{'|'.join(map(re.escape, longest_first))})"


UNKNOWN = frozenset(
    (
        *("", "-", "--", "---", ".", "?", "n/a", "n.a.", "n.a", "na", "none", "null", "nil", "nan"),
        *("undefined", "unknown", "not available", "not rated", "not yet rated", "not rated yet"),
        *("unrated", "no rating", "no ratings", "no rating yet", "no ratings yet", "no review"),
        *("no reviews", "no reviews yet", "k.a.", "s/o", "chưa có đánh giá"),
    )
)
"""What stands where no rating or count is known."""

OF = _any_of(
    *("out of", "of", "/", "von", "sur", "su", "de", "di", "van de", "van", "op", "av", "af"),
    *("ud af", "z", "ze", "из", "trên", "dari", "من", "na"),
)
_YILDIZ = "y\N{LATIN SMALL LETTER DOTLESS I}ld\N{LATIN SMALL LETTER DOTLESS I}z"

STARS = _any_of(
    _YILDIZ,
    *("stars", "star", "sterne", "sternen", "stern", "sterren", "ster", "étoiles", "étoile"),
    *("estrellas", "estrella", "estrelas", "estrela", "stelle", "stella", "stjärnor", "stjerner"),
    *("tähteä", "gwiazdek", "gwiazdki", "hvězdiček", "звёзд", "звезд", "звезды", "sao"),
    *("bintang", "ดาว", "نجوم", "ستاره", "星", "つ星", "별점", "★", "⭐", "☆"),
)
RATED = _any_of(
    *("rated", "rating", "average rating", "avg rating", "average", "score", "bewertung", "note"),
    *("calificación", "valoración", "nota", "avaliação", "valutazione", "beoordeling", "оценка"),
    *("рейтинг", "đánh giá", "★", "⭐"),
)
OUT_OF_FIVE = _any_of("5つ星のうち", f"5 {_YILDIZ} üzerinden", "5 üzerinden", "5점 만점에")
"""Languages that name the best rating first."""

_ADJECTIVES = _any_of("customer", "customers", "global", "verified", "product", "user", "total")
_NOUNS = _any_of(
    *("ratings", "rating", "reviews", "review", "votes", "vote", "opinions", "bewertungen"),
    *("bewertung", "rezensionen", "rezension", "sternebewertungen", "kundenrezensionen", "avis"),
    *("évaluations", "évaluation", "avis clients", "valoraciones", "valoración", "opiniones"),
    *("opinión", "reseñas", "reseña", "calificaciones", "calificación", "avaliações", "avaliação"),
    *("opiniões", "classificações", "recensioni", "recensione", "valutazioni", "voti"),
    *("beoordelingen", "beoordeling", "betyg", "omdömen", "recensioner", "anmeldelser"),
    *("vurderinger", "bedømmelser", "arvostelua", "arvostelut", "opinii", "opinie", "oceny"),
    *("ocen", "recenzji", "hodnocení", "recenzí", "recenzii", "értékelés", "vélemény"),
    *("отзывов", "отзыва", "отзыв", "оценок", "оценки", "оценка", "відгуків", "відгуки"),
    *("đánh giá", "lượt đánh giá", "nhận xét", "ulasan", "penilaian", "değerlendirme", "yorum"),
    *("รีวิว", "تقييمات", "تقييم", "تقييمًا", "نظر", "समीक्षाएं", "रेटिंग", "個の評価", "件の評価"),
    *("件のレビュー", "件の口コミ", "レビュー", "件", "条评论", "条评价", "則評價", "评价", "评论"),
    *("개의 리뷰", "개 리뷰", "개의 평가", "리뷰", "개", "건"),
)
REVIEWS = f"(?:(?:{_ADJECTIVES} )?{_NOUNS})"

MULTIPLIERS = {
    word: Decimal(number)
    for number, words in {
        1_000: "k thousand tsd tsd. tys tys. тыс тыс. тис тис. ribu rb nghìn ngàn พัน ألف 千 천",
        10_000: "หมื่น 万 萬 만",
        100_000: "lakh แสน",
        1_000_000: "m million mln mln. млн млн. jt juta triệu tr ล้าน مليون",
    }.items()
    for word in words.split()
}
"""Words behind a rounded count, and their numbers."""
MULTIPLIER = _any_of(*MULTIPLIERS)
