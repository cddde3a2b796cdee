"""The report as data, text, HTML and JUnit XML."""
