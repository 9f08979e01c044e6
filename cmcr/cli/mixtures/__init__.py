"""Commands about spaces of many encoders: joined, and their weights stored by name, swept, or learned by a router."""
