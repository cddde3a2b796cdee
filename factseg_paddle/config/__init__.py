"""Configuration files: schema, inheritance, and sentences about mistakes."""
