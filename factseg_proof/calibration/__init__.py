"""How far apart right networks are: the measurement behind the tolerances."""
