"""Search by text, image, keywords, or several of them, fused."""
