"""Public reports of other tools' faults, tried here: what went wrong there must be right, or refused by name."""
