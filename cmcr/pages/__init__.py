"""Pages of the evaluations: what a result looks like to a person."""
