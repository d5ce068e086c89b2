"""What a worker has on its host: its directories, who may change them, and how files in them are opened."""
