"""What happens to a layer's bytes: (de)compression, conversion, timestamp rewriting, and reading of its files."""
