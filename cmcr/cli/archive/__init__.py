"""Commands on memories that outlive their encoder."""
