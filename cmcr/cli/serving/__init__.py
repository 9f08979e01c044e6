"""The command that serves a space over HTTP."""
