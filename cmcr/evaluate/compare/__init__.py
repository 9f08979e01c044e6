"""Methods, recipes and seeds side by side."""
