"""The tiny world: scenes that can be drawn, sounded, shaped and captioned, and three small spaces that learned them."""
