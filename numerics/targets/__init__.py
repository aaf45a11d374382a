"""One file per code-generation target."""
