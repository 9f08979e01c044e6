"""Spaces in other libraries: values in memory are embedded as files are, and models that those libraries run."""
