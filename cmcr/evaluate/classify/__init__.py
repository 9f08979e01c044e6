"""Classification with missing modalities."""
