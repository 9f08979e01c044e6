"""Classification by texts."""
