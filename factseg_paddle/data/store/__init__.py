"""The prepared store, whose windows are read without decoding whole images."""
