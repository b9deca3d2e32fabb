"""Go's ways with JSON, text and time, to the byte."""
