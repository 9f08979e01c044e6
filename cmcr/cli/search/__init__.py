"""Commands that make asking faster or narrower."""
