"""Commands about items that several encoders see: weights stored by name, swept, and learned by a router."""
