"""Values and rules: no server, no clock, no other folder of ours."""
