"""When what waits will begin and end: durations that were learned, played forward."""
