"""End-to-end harness: a real cluster anywhere, a load client, and the tests that run against them."""
