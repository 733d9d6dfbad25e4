"""Models that go by name."""
