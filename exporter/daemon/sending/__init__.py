"""Files and images that go to a session's client, as BuildKit's own exporters send them."""
