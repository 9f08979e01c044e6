"""Commands that change or compare the rows of a memory, one file each."""
