"""When waiting analyses will begin and end: a forecast from the durations of earlier ones."""
