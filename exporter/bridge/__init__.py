"""The daemon's side: sessions, and what is served and called through them."""
