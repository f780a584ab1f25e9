"""The words for each kind of drawn product, in the catalogue and in the model's training."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wording:
    """Department, words and price range of one kind."""

    category: str
    nouns: tuple[str, ...]
    """Words in the catalogue."""
    also: tuple[str, ...]
    """Other words that people may type."""
    materials: tuple[str, ...]
    price_range: tuple[int, int]
    """Whole units of the catalogue's currency."""


WORDING: dict[str, Wording] = {
    "mug": Wording(
        "Kitchen",
        ("mug", "coffee mug", "tea mug"),
        ("cup", "coffee cup"),
        ("ceramic", "stoneware", "porcelain", "enamel"),
        (6, 24),
    ),
    "bottle": Wording(
        "Sports and outdoors",
        ("bottle", "water bottle", "drinking bottle"),
        ("flask",),
        ("steel", "glass", "aluminium"),
        (9, 35),
    ),
    "t-shirt": Wording(
        "Clothing",
        ("t-shirt",),
        ("shirt", "tee", "tshirt", "t shirt"),
        ("cotton", "linen", "jersey"),
        (10, 45),
    ),
    "shoe": Wording(
        "Shoes",
        ("shoe", "running shoe", "canvas shoe"),
        ("sneaker", "trainer"),
        ("leather", "canvas", "suede"),
        (35, 140),
    ),
    "bag": Wording(
        "Bags",
        ("bag", "handbag", "shoulder bag"),
        ("purse", "tote bag"),
        ("leather", "canvas", "vegan leather"),
        (25, 190),
    ),
    "lamp": Wording(
        "Lighting",
        ("lamp", "table lamp", "bedside lamp"),
        ("desk lamp", "light"),
        ("linen", "metal", "paper"),
        (19, 120),
    ),
    "chair": Wording(
        "Furniture",
        ("chair", "dining chair", "kitchen chair"),
        ("seat",),
        ("wooden", "velvet", "oak", "beech"),
        (49, 260),
    ),
    "clock": Wording(
        "Home decor",
        ("clock",),
        ("alarm clock", "wall clock"),
        ("metal", "wooden", "retro"),
        (14, 80),
    ),
    "book": Wording(
        "Stationery",
        ("book", "notebook", "hardcover book"),
        ("journal",),
        ("linen", "leather", "cloth"),
        (5, 30),
    ),
    "hat": Wording(
        "Accessories",
        ("hat", "sun hat", "brimmed hat"),
        ("fedora",),
        ("felt", "wool", "cotton", "straw"),
        (15, 75),
    ),
    "umbrella": Wording(
        "Rainwear",
        ("umbrella", "rain umbrella"),
        ("parasol",),
        ("nylon", "windproof", "wooden"),
        (12, 60),
    ),
    "headphones": Wording(
        "Electronics",
        ("headphones", "wireless headphones", "studio headphones"),
        ("headset", "headphone"),
        ("bluetooth", "foldable", "padded"),
        (29, 240),
    ),
    "plant pot": Wording(
        "Garden",
        ("plant pot", "flower pot"),
        ("pot", "planter", "potted plant"),
        ("ceramic", "terracotta", "stoneware"),
        (7, 48),
    ),
    "toy car": Wording(
        "Toys",
        ("toy car", "model car"),
        ("car",),
        ("wooden", "metal", "tin"),
        (8, 55),
    ),
}
ADJECTIVES = (
    "small", "large", "classic", "modern", "simple", "light", "handmade", "vintage", "everyday",
    "soft", "elegant", "sturdy",
)  # fmt: skip


def product_name(kind: str, colour: str, rng: random.Random) -> str:
    """Return a shop's name for the product, such as ``Small red ceramic mug``."""
    wording = WORDING[kind]
    noun, material = rng.choice(wording.nouns), rng.choice(wording.materials)
    adjective = rng.choice(ADJECTIVES)
    name = rng.choice(
        (
            f"{colour} {noun}",
            f"{colour} {noun}",
            f"{colour} {material} {noun}",
            f"{adjective} {colour} {noun}",
            f"{adjective} {colour} {material} {noun}",
            f"{material} {noun} in {colour}",
        )
    )
    return name[0].upper() + name[1:]
