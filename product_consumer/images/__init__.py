"""Image URL -> bytes -> RGB pixels, within limits."""
