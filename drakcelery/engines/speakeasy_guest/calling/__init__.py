"""How functions are called: how many words they take, and functions of ours that call the program's."""
